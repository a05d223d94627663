package main

import (
	"strings"
	"testing"

	"inos/host/api"
)

func TestFirstDigitsNameAJobWhenNoOtherHasThem(t *testing.T) {
	jobs := []api.Job{{ID: "3f21c09a7be4"}, {ID: "3f21d09a7be4"}, {ID: "3f2"}, {ID: "a1"}}
	for _, c := range []struct{ text, want string }{
		{"3f21c09a7be4", "3f21c09a7be4"}, {"3f21c", "3f21c09a7be4"}, {"3f2", "3f2"}, {"a", "a1"}, {"b", "b"},
	} {
		if id, err := resolve(c.text, jobs); err != nil || id != c.want {
			t.Errorf("%s is %s, %v; want %s", c.text, id, err, c.want)
		}
	}
	_, err := resolve("3f", jobs)
	if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "3f21c09a7be4, 3f21d09a7be4, 3f2") {
		t.Errorf("several with these digits: %v", err)
	}
}
