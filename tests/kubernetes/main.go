// Kubernetes' own API server, with an etcd in the same process: what tests ask whether it would take a manifest.
//
//	kube-apiserver FOLDER PORT ETCD_PORT PEER_PORT [FLAG...]   keeps everything in FOLDER, listens on 127.0.0.1 alone
package main

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func local(port string) []url.URL {
	return []url.URL{{Scheme: "http", Host: "127.0.0.1:" + port}}
}

func main() {
	if len(os.Args) < 5 {
		fail(fmt.Errorf("usage: kube-apiserver FOLDER PORT ETCD_PORT PEER_PORT [FLAG...]"))
	}
	folder, port, clients, peers := os.Args[1], os.Args[2], local(os.Args[3]), local(os.Args[4])
	settings := embed.NewConfig()
	settings.Dir = filepath.Join(folder, "etcd")
	settings.LogLevel = "error"
	settings.UnsafeNoFsync = true // nothing of a test outlives it
	settings.ListenClientUrls, settings.AdvertiseClientUrls = clients, clients
	settings.ListenPeerUrls, settings.AdvertisePeerUrls = peers, peers
	settings.InitialCluster = settings.InitialClusterFromName(settings.Name)
	etcd, err := embed.StartEtcd(settings)
	fail(err)
	<-etcd.Server.ReadyNotify()

	command := app.NewAPIServerCommand()
	command.SetArgs(append([]string{
		"--etcd-servers=" + clients[0].String(),
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port=" + port,
		"--cert-dir=" + filepath.Join(folder, "certificates"),
	}, os.Args[5:]...))
	os.Exit(cli.Run(command))
}
