package wire

import (
	"errors"
	"fmt"
	"slices"

	"inos/protocols/base/v1"
)

// CanAdopt says what of the state that is there a version could not go on with: a
// block that is there in some schemas, none of which is the version's own or among
// its Adopts. A block that it does not declare is given up on purpose. Nil means
// that it can take over.
func CanAdopt(there []StateSpec, next *Manifest) error {
	var errs []error
	for _, s := range next.State {
		var schemas []uint32
		for _, t := range there {
			if t.Name == s.Name {
				schemas = append(schemas, t.Schema)
			}
		}
		takes := func(schema uint32) bool { return schema == s.Schema || slices.Contains(s.Adopts, schema) }
		if len(schemas) > 0 && !slices.ContainsFunc(schemas, takes) {
			errs = append(errs, fmt.Errorf("state %q is kept in schema %d, and %s %s knows schema %d and adopts %v",
				s.Name, schemas, next.Name, next.Version, s.Schema, s.Adopts))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return NewError(base.Code_notSupported, "name the schema in StateSpec.Adopts and take it over in Plugin.Adopt, or remove the plugin from the folder first, which forgets its state", "%w", err)
	}
	return nil
}
