package api

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is a server and a client that talk over a real socket.
type door struct {
	*backend
	server *Server
	client *Client
	socket string
}

func open(t *testing.T, o Options) *door {
	t.Helper()
	b := newBackend(t) // first, so that it is cleaned up last
	socket := filepath.Join(privateDir(t), "inos.sock")
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{backend: b, server: NewServer(b, o), socket: socket}
	served := make(chan error, 1)
	go func() { served <- d.server.Serve(l) }()
	if d.client, err = Dial(socket); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		d.client.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.server.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return d
}

// dial opens a bare connection to the door.
func (d *door) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := d.client.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func privateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "home")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}
