package sdk_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"inos/plugins/sdk"
)

// greeter is a whole plugin. Its main function would be
//
//	func main() { sdk.Serve(greeter) }
var greeter = &sdk.Plugin{
	Name:        "greet",
	Version:     "1.0.0",
	Description: "says hello",
	Capabilities: []sdk.Capability{{
		Name:       "greet.hello",
		Params:     []sdk.ParamSpec{{Name: "name", Default: "world"}},
		Idempotent: true,
		Handle: func(j *sdk.Job) error {
			_, err := fmt.Fprintf(j, "Hello, %s!", j.Params().Text("name"))
			return err
		},
	}},
}

func Example() {
	var out bytes.Buffer
	err := greeter.Try(context.Background(), "greet.hello", sdk.Params{{Name: "name", Value: "INOS"}}, strings.NewReader(""), &out)
	fmt.Println(out.String(), err)
	// Output: Hello, INOS! <nil>
}
