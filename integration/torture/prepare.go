package main

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// newCampaign makes the folder of a run and all that is in it before the node starts.
func newCampaign(o options, log *progress) (*campaign, error) {
	dir := o.dir
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "torture-")
	} else {
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	o.dir, o.slack = dir, max(1, o.slack)
	c := &campaign{
		o: o, log: log, source: rand.New(rand.NewPCG(o.seed, o.seed)),
		folder: folder{filepath.Join(dir, "plugins"), filepath.Join(dir, "aside")},
		patch:  make(map[string]int), deaths: make(map[string]int),
	}
	for _, d := range []string{"bin", "home", "plugins", "aside", "tmp", "config"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	log.say("the run is in %s", dir)
	if c.programs, err = build(filepath.Join(dir, "bin")); err != nil {
		return nil, err
	}
	c.host = newHost(c.programs.inos, dir)
	if c.books, err = newBooks(dir, log); err != nil {
		return nil, err
	}
	return c, c.prepare()
}

// policy lets versions prove themselves quickly.
func (c *campaign) policy() ([]byte, error) {
	rule := map[string]any{
		"settings":  map[string]string{"ledger": c.books.ledger},
		"probation": "2s", "drain_timeout": "20s",
	}
	return json.Marshal(map[string]any{
		"default": rule,
		"plugins": map[string]any{mill: map[string]any{"canary": map[string]any{"percent": 20, "for": "300ms"}}},
	})
}

// prepare writes what the node reads at its start.
func (c *campaign) prepare() error {
	text, err := c.policy()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.host.home, "policy.json"), text, 0o600); err != nil {
		return err
	}
	if c.key, err = localKey(filepath.Join(c.host.home, "trust")); err != nil {
		return err
	}
	r := c.random()
	for _, m := range modules {
		if err := c.folder.rename(r, m, c.next(m).bytes); err != nil {
			return err
		}
	}
	return nil
}

// close ends what still runs, and removes the folder when there is nothing in it
// that anybody needs.
func (c *campaign) close() {
	if c.host.cmd != nil {
		select {
		case <-c.host.died():
		default:
			c.host.kill()
		}
	}
	if c.log.found == 0 && !c.o.keep {
		_ = os.RemoveAll(c.o.dir) // what is left of it harms nobody
		return
	}
	c.log.say("the folder of the run is %s: node.log, events.log, home, plugins", c.o.dir)
}
