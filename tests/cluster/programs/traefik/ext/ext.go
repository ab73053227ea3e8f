// Package ext is where other builds of Traefik add settings of their own; this one adds none.
package ext

// HTTP adds nothing to a dynamic HTTP configuration.
type HTTP struct{}

// Router adds nothing to a router.
type Router struct{}
