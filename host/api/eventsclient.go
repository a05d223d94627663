package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"inos/plugins/sdk/wire"
	"inos/protocols/base/v1"
)

// EventQuery says which events are wanted.
type EventQuery struct {
	// Since is the number of the last event that is known already, 0 for none.
	Since uint64
	// Plugin by its name or its file's, empty for all.
	Plugin string
	// Limit is how many are wanted at most, the newest; 0 for all.
	Limit int
	// Wait for one when there is none. The node answers without after half a minute
	// at most.
	Wait bool
}

func (q EventQuery) values() url.Values {
	v := url.Values{}
	if q.Since > 0 {
		v.Set("since", strconv.FormatUint(q.Since, 10))
	}
	if q.Plugin != "" {
		v.Set("plugin", q.Plugin)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Wait {
		v.Set("wait", "1")
	}
	return v
}

// Events lists what happened to the plugins, the oldest first. Give Last of the
// answer as Since of the next query.
func (c *Client) Events(ctx context.Context, q EventQuery) (e Events, err error) {
	return e, c.ask(ctx, c.patient, http.MethodGet, "/v1/events?"+q.values().Encode(), &e)
}

// maxEventLine bounds the JSON of one event.
const maxEventLine = 1 << 20

// Follow calls f with each event that q asks for, those to come too, until ctx
// ends, f returns an error or the node goes away. Its error is never nil.
func (c *Client) Follow(ctx context.Context, q EventQuery, f func(Event) error) error {
	v := q.values()
	v.Del("wait")
	v.Set("follow", "1")
	resp, err := c.request(ctx, c.patient, http.MethodGet, "/v1/events?"+v.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	switch err := readEvents(resp.Body, f); {
	case errors.Is(err, errEvent):
		return fmt.Errorf("node at %s: %w", c.socket, err)
	case err != nil:
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return wire.NewError(base.Code_unavailable, "see whether it runs: inos doctor", "the node at %s has stopped", c.socket)
}

var errEvent = errors.New("an event that makes no sense")

// readEvents calls f with the event of each line. It returns nil when no more come,
// for whatever reason.
func readEvents(r io.Reader, f func(Event) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEventLine)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("%w: %w", errEvent, err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("%w: %w", errEvent, err)
	}
	return nil
}
