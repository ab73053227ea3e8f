// Tekton's own code on this repository's rendered manifests, with no cluster.
//
//	tekton validate FILE...  runs SetDefaults and Validate, as Tekton's admission webhooks do, on every object of Tekton's
//	tekton listen FILE...    serves the EventListener of the files on loopback: the real sink, the real interceptors
//
// A file holds YAML documents; `-` is standard input. Objects of other groups are left alone.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: tekton validate|listen FILE..."))
	}
	objects, err := read(os.Args[2:])
	if err != nil {
		fail(err)
	}
	switch os.Args[1] {
	case "validate":
		err = validate(objects)
	case "listen":
		err = listen(objects)
	default:
		err = fmt.Errorf("%s: no such command, expected validate or listen", os.Args[1])
	}
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "error:", err)
	os.Exit(1)
}
