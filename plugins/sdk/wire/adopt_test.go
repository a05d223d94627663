package wire

import (
	"errors"
	"testing"
)

func TestCanAdopt(t *testing.T) {
	there := func(schemas ...uint32) (list []StateSpec) {
		for _, s := range schemas {
			list = append(list, StateSpec{Name: "a", Schema: s})
		}
		return list
	}
	for _, c := range []struct {
		name  string
		there []StateSpec
		next  []StateSpec
		can   bool
	}{
		{"nothing is there", nil, []StateSpec{{Name: "a", Schema: 3}}, true},
		{"the same", there(1), []StateSpec{{Name: "a", Schema: 1}}, true},
		{"adopted", there(1), []StateSpec{{Name: "a", Schema: 2, Adopts: []uint32{1}}}, true},
		{"unknown", there(1), []StateSpec{{Name: "a", Schema: 2}}, false},
		{"newer", there(2), []StateSpec{{Name: "a", Schema: 1}}, false},
		{"its own is still there", there(1, 2), []StateSpec{{Name: "a", Schema: 1}}, true},
		{"given up", there(1), nil, true},
		{"another block", there(1), []StateSpec{{Name: "b", Schema: 2}}, true},
	} {
		err := CanAdopt(c.there, &Manifest{Name: "m", State: c.next})
		if (err == nil) != c.can || err != nil && !errors.Is(err, ErrNotSupported) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
