package main

import (
	"fmt"
	"os"
	"strings"
)

// misbehave goes wrong before the plugin serves, if its name asks for that. It
// reports whether the process has nothing more to do.
func misbehave(name string) bool {
	switch {
	case strings.HasPrefix(name, "noise"):
		fmt.Println("hello, I am not a handshake")
	case strings.HasPrefix(name, "initcrash"):
		panic("the test asked for it")
	case strings.HasPrefix(name, "initexit"):
		fmt.Fprintln(os.Stderr, "I cannot go on")
		os.Exit(3)
	case strings.HasPrefix(name, "inithang"):
		select {}
	case strings.HasPrefix(name, "oldprotocol"):
		fmt.Println("1|99|unix|/nowhere|grpc|")
	case strings.HasPrefix(name, "oldabi"):
		serveOldABI(name)
	default:
		return false
	}
	return true
}
