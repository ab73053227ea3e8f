package auth

import "net/http"

// RequireAuthStale asks for a password like RequireAuth: upstream's fork, which the Go proxy does not serve, also says that the
// nonce is old. No Ingress of ours asks for one.
func (da *DigestAuth) RequireAuthStale(w http.ResponseWriter, r *http.Request) {
	da.RequireAuth(w, r)
}
