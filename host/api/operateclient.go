package api

import (
	"context"
	"net/http"
	"net/url"
)

// Swap puts another version of a plugin into service: the highest of the folder
// for "", else the one of that number or of a digest that begins so. It returns
// when the new version serves, on probation, and otherwise why the old one still
// does. When ctx ends before the new version serves, everything is undone.
func (c *Client) Swap(ctx context.Context, name, version string) (Plugin, error) {
	return c.operate(ctx, name, "swap", version)
}

// Rollback puts the version back into service that served before.
func (c *Client) Rollback(ctx context.Context, name string) (Plugin, error) {
	return c.operate(ctx, name, "rollback", "")
}

// Pin has one version of a plugin served whatever comes into the folder: that
// which serves for "".
func (c *Client) Pin(ctx context.Context, name, version string) (Plugin, error) {
	return c.operate(ctx, name, "pin", version)
}

// Unpin lets the folder decide again.
func (c *Client) Unpin(ctx context.Context, name string) (Plugin, error) {
	return c.operate(ctx, name, "unpin", "")
}

// Drain takes a plugin out of service: its running jobs end, new ones wait. It
// returns when none runs; when ctx ends before, the plugin is held all the same.
func (c *Client) Drain(ctx context.Context, name string) (Plugin, error) {
	return c.operate(ctx, name, "drain", "")
}

// Undrain puts a plugin back into service after Drain.
func (c *Client) Undrain(ctx context.Context, name string) (Plugin, error) {
	return c.operate(ctx, name, "undrain", "")
}

// operate changes what serves, and returns the plugin as it is then. It may take
// as long as the jobs under way do.
func (c *Client) operate(ctx context.Context, name, verb, version string) (p Plugin, err error) {
	path := "/v1/plugins/" + url.PathEscape(name) + "/" + verb
	if version != "" {
		path += "?version=" + url.QueryEscape(version)
	}
	return p, c.ask(ctx, c.patient, http.MethodPost, path, &p)
}

// History lists the versions of a plugin that the node knows, the newest first.
func (c *Client) History(ctx context.Context, name string) ([]Version, error) {
	var h History
	err := c.query(ctx, http.MethodGet, "/v1/plugins/"+url.PathEscape(name)+"/history", &h)
	return h.Versions, err
}

// Quarantine lists the jobs that are under suspicion of ending plugins, or not
// started any more for it, the last first.
func (c *Client) Quarantine(ctx context.Context) ([]Quarantined, error) {
	var q Quarantine
	err := c.query(ctx, http.MethodGet, "/v1/quarantine", &q)
	return q.Jobs, err
}

// Forgive lets jobs be started again whose digest begins so; give six digits at
// least.
func (c *Client) Forgive(ctx context.Context, digest string) error {
	var q Quarantine
	return c.query(ctx, http.MethodDelete, "/v1/quarantine/"+url.PathEscape(digest), &q)
}
