// Package gatewaytest fakes the gateway's peers on loopback, as net/http/httptest fakes web servers: a certificate authority, a next
// hop, an SMS provider, a directory extraction file, a real private Postfix and a real private LDAP server. It takes a few options, gives a running peer that
// remembers what reached it, and knows nothing of the gateway's rooms. The demo uses it too, so nothing here needs a *testing.T:
// every Start returns an error and every peer has a Close.
package gatewaytest
