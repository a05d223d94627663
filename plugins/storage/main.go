// Command storage is the module that keeps objects: compressed, encrypted,
// addressed by content, on this node's disk.
package main

import (
	"inos/plugins/sdk"
	"inos/plugins/storage/service"
)

func main() { sdk.Serve(service.Plugin()) }
