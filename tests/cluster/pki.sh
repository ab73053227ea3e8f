#!/usr/bin/env bash
# The cluster's certificates and kubeconfigs, made once; they go with the cluster. The CA of the forge and of the Ingresses
# stays in $CLUSTER/web, as the runner's image trusts it.
# shellcheck source=tests/cluster/common.sh
. "$(dirname "$0")/common.sh"
umask 077
mkdir -p "$PKI" "$CLUSTER/web"
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
authority() { key "$1"; openssl req -x509 -new -key "$1.key" -days 3650 -subj "/CN=$2" -out "$1.crt" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature; }
# leaf NAME AUTHORITY SUBJECT USAGE [SAN]
leaf() {
  key "$1"
  { echo "basicConstraints=CA:FALSE"; echo "keyUsage=critical,digitalSignature,keyEncipherment"; echo "extendedKeyUsage=$4"
    if [ -n "${5:-}" ]; then echo "subjectAltName=$5"; fi; } > "$1.ext"
  openssl req -new -key "$1.key" -subj "$3" -out "$1.csr"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days 365 -extfile "$1.ext" -out "$1.crt" 2> /dev/null
  rm "$1.csr" "$1.ext"
}
cd "$CLUSTER/web"
if ! [ -f ca.crt ]; then authority new web && mv new.key ca.key && mv new.crt ca.crt; fi
if [ "${1:-}" = --web ] || [ -f "$PKI/done" ]; then exit 0; fi
cd "$PKI"
cp "$CLUSTER/web/ca.crt" web.crt
cp "$CLUSTER/web/ca.key" web.key
leaf forge web "/CN=$FORGE" serverAuth "DNS:$FORGE"
authority ca kubernetes
authority front-proxy-ca front-proxy
openssl genrsa -out sa.key 2048 2> /dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2> /dev/null
leaf apiserver ca /CN=kube-apiserver serverAuth "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:$API_IP,IP:$NODE_IP,IP:127.0.0.1"
leaf apiserver-kubelet-client ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
leaf front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
leaf admin ca /O=system:masters/CN=admin clientAuth
leaf controller-manager ca /CN=system:kube-controller-manager clientAuth
leaf controller-manager-server ca /CN=kube-controller-manager serverAuth DNS:localhost,IP:127.0.0.1
leaf scheduler ca /CN=system:kube-scheduler clientAuth
leaf scheduler-server ca /CN=kube-scheduler serverAuth DNS:localhost,IP:127.0.0.1
leaf kubelet ca "/O=system:nodes/CN=system:node:$NODE_NAME" clientAuth
leaf kubelet-server ca "/O=system:nodes/CN=system:node:$NODE_NAME" serverAuth "DNS:$NODE_NAME,IP:$NODE_IP"
leaf proxy ca /CN=system:kube-proxy clientAuth
leaf netpol ca /CN=system:netpol clientAuth
# config NAME FILE
config() {
  cat > "$2" <<Y
apiVersion: v1
kind: Config
current-context: cluster
clusters:
- name: cluster
  cluster: {server: "$API", certificate-authority-data: $(base64 -w0 ca.crt)}
contexts:
- name: cluster
  context: {cluster: cluster, user: $1}
users:
- name: $1
  user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}
Y
}
for name in controller-manager scheduler kubelet proxy netpol; do config $name $name.kubeconfig; done
config admin "$KUBECONFIG"
touch "$PKI/done"
