package web

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
)

// policy lets the page load its own files and talk to its own server, and nothing else. Trusted types make the browser
// refuse to turn a string into markup or script, which is how a hostile title would become code.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// protect sets the headers that tell browsers what this server's answers may do, and turns a panic into an answer
// without its stack, which goes to the log.
func (s *Server) protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		defer func() {
			if v := recover(); v != nil {
				if v == http.ErrAbortHandler {
					panic(v)
				}
				s.log.Error("panic while answering", "method", r.Method, "route", r.Pattern, "panic", v, "stack", string(debug.Stack()))
				fail(w, http.StatusInternalServerError, "r2rec made a mistake; its log says which")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// guard answers only requests that address this server by a name of its own, that do not come from another site, and,
// unless open, that carry the token.
func (s *Server) guard(ours func(host string) bool, open bool, next http.HandlerFunc) http.Handler {
	crossOrigin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !ours(hostName(r.Host)) {
			fail(w, http.StatusMisdirectedRequest, "this address does not answer for that host name; use localhost, or start r2rec with --allowed-host NAME")
			return
		}
		// Reading has effects here too, a decision that is made and logged, so it is refused as well wherever the
		// browser says that a page of another origin asks. Pages and probes stay reachable by a link.
		site := r.Header.Get("Sec-Fetch-Site")
		fromElsewhere := !open && site != "" && site != "same-origin" && site != "none"
		if err := crossOrigin.Check(r); err != nil || fromElsewhere {
			fail(w, http.StatusForbidden, "requests from pages of other sites are refused")
			return
		}
		if !open && !s.authorised(r) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="r2rec"`)
			fail(w, http.StatusUnauthorized, "send the token that r2rec was started with: Authorization: Bearer TOKEN")
			return
		}
		next(w, r)
	})
}

// authorised compares digests, so that neither the token's length nor its beginning can be found by timing.
func (s *Server) authorised(r *http.Request) bool {
	if s.Token == "" {
		return true
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.Token))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// ours tells which host names are answered. Addresses are, where others can connect at all: only a name can be made to
// lead elsewhere behind a browser's back, and probes ask by an address that nobody knows beforehand.
func (s *Server) ours(loopback bool) func(host string) bool {
	if !loopback && len(s.AllowedHosts) == 0 {
		return func(string) bool { return true }
	}
	names := map[string]bool{"localhost": true}
	for _, h := range s.AllowedHosts {
		names[hostName(h)] = true
	}
	return func(host string) bool {
		ip := net.ParseIP(host)
		return names[host] || ip != nil && (ip.IsLoopback() || !loopback)
	}
}

var errNoHost = errors.New("want a host name in ASCII, such as rec.example.com, or host:port; no scheme, no path, no wildcard")

// CheckHost refuses what no Host header holds, and so would allow nobody. A port does not count.
func CheckHost(host string) error {
	if name, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return errNoHost
		}
		host = name
	}
	name := hostName(host)
	strange := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r))
	}
	if net.ParseIP(name) == nil && (name == "" || strings.ContainsFunc(name, strange)) {
		return errNoHost
	}
	return nil
}

// hostName is the name in a Host header: without port, brackets and a final dot, in lower case.
func hostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
