package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"inos/host/node"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// Operator changes what serves. Its methods are those of node.Node and do what it
// says of them.
type Operator interface {
	Swap(ctx context.Context, name, version string) error
	Rollback(ctx context.Context, name string) error
	Pin(ctx context.Context, name, version string) error
	Unpin(ctx context.Context, name string) error
	Drain(ctx context.Context, name string) error
	Undrain(ctx context.Context, name string) error
	History(name string) ([]node.Version, error)
}

// History lists the versions of a plugin that the node knows, the newest first.
type History struct {
	Versions []Version `json:"versions"`
}

// Version describes one version of a plugin.
type Version struct {
	Version   string    `json:"version"`
	Digest    string    `json:"digest"`              // SHA-256 of the binary, hex
	File      string    `json:"file"`                // its name when it was admitted
	Publisher string    `json:"publisher,omitempty"` // whose key signed it
	Size      int64     `json:"size"`
	Admitted  time.Time `json:"admitted,omitzero"`
	Outcome   string    `json:"outcome,omitempty"` // served, rolled back, refused; absent when it was never tried
	Reason    string    `json:"reason,omitempty"`
	Serving   bool      `json:"serving"`
	Pinned    bool      `json:"pinned"`
	Stored    bool      `json:"stored"` // the binary is kept, so it can serve again
}

func (s *Server) getHistory(w http.ResponseWriter, r *http.Request) {
	versions, err := s.node.History(r.PathValue("name"))
	if err != nil {
		fail(w, err)
		return
	}
	h := History{Versions: []Version{}}
	for _, v := range versions {
		h.Versions = append(h.Versions, Version{
			Version: v.Version, Digest: v.Digest, File: v.File, Publisher: v.Publisher, Size: v.Size, Admitted: v.Admitted,
			Outcome: v.Outcome, Reason: v.Reason, Serving: v.Serving, Pinned: v.Pinned, Stored: v.Stored,
		})
	}
	reply(w, http.StatusOK, h)
}

// maxChange bounds how long a change of what serves may take. Its steps have
// bounds of their own, from the operator's policy.
const maxChange = time.Hour

var errChangeTime = fmt.Errorf("it took longer than %s: %w", maxChange, context.DeadlineExceeded)

// changing serves a change of what serves, and answers with the plugin as it is
// after it.
func (s *Server) changing(change func(ctx context.Context, name, version string) error) http.HandlerFunc {
	return unhurried(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		ctx, stop := context.WithTimeoutCause(r.Context(), maxChange, errChangeTime)
		defer stop()
		if err := change(ctx, name, r.URL.Query().Get("version")); err != nil {
			fail(w, err)
			return
		}
		p, ok := findPlugin(s.node.Plugins(), name)
		if !ok { // it left the folder meanwhile
			p = node.PluginStatus{Name: name}
		}
		reply(w, http.StatusOK, newPlugin(p))
	})
}

// versionless is a change that knows no version.
func versionless(change func(ctx context.Context, name string) error) func(context.Context, string, string) error {
	return func(ctx context.Context, name, version string) error {
		if version != "" {
			return wire.NewError(base.Code_invalidArgument, "leave it out", "a version says nothing here, and %q was given", version)
		}
		return change(ctx, name)
	}
}
