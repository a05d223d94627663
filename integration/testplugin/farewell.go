package main

import (
	"context"
	"os"

	"inos/plugins/sdk"
)

// farewell has the plugin write the file that its setting "farewell" names, if
// there is one, when it is asked to stop.
func farewell(p *sdk.Plugin) {
	var file string
	p.Start = func(_ context.Context, h *sdk.Host) error {
		file = h.Setting("farewell")
		return nil
	}
	p.Stop = func(context.Context) error {
		if file == "" {
			return nil
		}
		return os.WriteFile(file, []byte("farewell"), 0o600)
	}
}
