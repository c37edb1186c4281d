package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed openapi.json
var openAPI []byte

//go:embed page
var pageFiles embed.FS

// asset is one file of the page.
type asset struct {
	kind string // media type
	etag string
	body []byte
}

var assetKinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

func loadAssets() (map[string]asset, error) {
	entries, err := fs.ReadDir(pageFiles, "page")
	if err != nil {
		return nil, fmt.Errorf("web: read the page's files: %w", err)
	}
	assets := map[string]asset{}
	for _, e := range entries {
		body, err := fs.ReadFile(pageFiles, path.Join("page", e.Name()))
		if err != nil {
			return nil, fmt.Errorf("web: read %s of the page: %w", e.Name(), err)
		}
		kind, ok := assetKinds[path.Ext(e.Name())]
		if !ok {
			return nil, fmt.Errorf("web: %s of the page has no media type", e.Name())
		}
		sum := sha256.Sum256(body)
		assets[e.Name()] = asset{kind, `"` + hex.EncodeToString(sum[:8]) + `"`, body}
	}
	return assets, nil
}

func (s *Server) index(w http.ResponseWriter, r *http.Request) { s.serveAsset(w, r, "index.html") }

func (s *Server) asset(w http.ResponseWriter, r *http.Request) {
	s.serveAsset(w, r, r.PathValue("file"))
}

func (s *Server) serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	a, ok := s.assets[name]
	if !ok {
		fail(w, http.StatusNotFound, "the page has no such file")
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("ETag", a.etag)
	w.Header().Set("Cache-Control", "no-cache") // asked for again, and answered 304 unless r2rec was updated
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(a.body))
}

func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(openAPI) // the client is gone: nobody is left to be told
}
