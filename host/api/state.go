package api

import (
	"net/http"

	"inos/host/node"
	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

func (s *Server) getNode(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, newNode(s.node.Info(), s.node.Durable().Stats()))
}

func (s *Server) getPlugins(w http.ResponseWriter, _ *http.Request) {
	list := Plugins{Plugins: []Plugin{}}
	for _, p := range s.node.Plugins() {
		list.Plugins = append(list.Plugins, newPlugin(p))
	}
	reply(w, http.StatusOK, list)
}

func (s *Server) getPlugin(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if p, ok := findPlugin(s.node.Plugins(), name); ok {
		reply(w, http.StatusOK, newPlugin(p))
		return
	}
	fail(w, wire.NewError(base.Code_notFound, "see inos plugin list", "there is no plugin %q", name))
}

// findPlugin finds a plugin by its name or its file's. Of several files with one
// name, that which is not refused counts.
func findPlugin(list []node.PluginStatus, name string) (found node.PluginStatus, ok bool) {
	for _, p := range list {
		if p.Name == name || p.File == name {
			if found, ok = p, true; p.Phase != node.Refused {
				break
			}
		}
	}
	return found, ok
}

func (s *Server) getCapabilities(w http.ResponseWriter, _ *http.Request) {
	list := Capabilities{Capabilities: []Capability{}}
	for _, c := range s.node.Engine().Capabilities() {
		out := newCapability(c.Capability)
		out.Module, out.Instances, out.Waiting = c.Module, c.Instances, c.Waiting
		list.Capabilities = append(list.Capabilities, out)
	}
	reply(w, http.StatusOK, list)
}

func (s *Server) getSegment(w http.ResponseWriter, _ *http.Request) {
	reply(w, http.StatusOK, newSegment(s.node.Segment(), s.node.Plugins()))
}
