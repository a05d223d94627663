// Package mesh is the root of the room that joins nodes. Nothing of it is built
// yet, and a node says so: what would need peers fails with ErrNoMesh. It will
// import protocols alone, and nothing of host or plugins.
package mesh

import "errors"

// ErrNoMesh answers what only a mesh could do.
var ErrNoMesh = errors.New("no mesh")
