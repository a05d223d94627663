package main

import (
	"context"
	"strconv"
	"strings"

	"inos/host/api"
)

// withJob calls f with a client of the running node and the number of a job, of
// which text holds the first digits or all.
func (a *app) withJob(ctx context.Context, text string, f func(*api.Client, string) error) error {
	text = strings.ToLower(text)
	if _, err := strconv.ParseUint(text, 16, 64); err != nil {
		return usagef("%q is not the number of a job; see inos job list", text)
	}
	return a.withNode(func(c *api.Client) error {
		jobs, err := c.JobsLike(ctx, text, maxNamed+1)
		if err != nil {
			return err
		}
		id, err := resolve(text, jobs.Jobs)
		if err != nil {
			return err
		}
		return f(c, id)
	})
}

// maxNamed bounds how many jobs one error message lists.
const maxNamed = 8

// resolve returns the number of the one job that begins with text. Text that no
// job begins with comes back as it is: the node says best what it does not know.
func resolve(text string, jobs []api.Job) (string, error) {
	var found []string
	for _, j := range jobs {
		if j.ID == text {
			return text, nil
		}
		if strings.HasPrefix(j.ID, text) {
			found = append(found, j.ID)
		}
	}
	switch len(found) {
	case 0:
		return text, nil
	case 1:
		return found[0], nil
	}
	more := ""
	if len(found) > maxNamed {
		found, more = found[:maxNamed], ", ..."
	}
	return "", usagef("several jobs begin with %s: %s; give more digits", text, strings.Join(found, ", ")+more)
}
