package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"inos/protocols/base/v1"
	"inos/protocols/compute/v1"
	"inos/protocols/system/v1"
)

// Param is a named value of a job.
type Param struct {
	Name  string
	Value any // string, bool, int64, uint64, float64 or []byte
}

// Params are the parameters of a job, each name once. The getters return the
// zero value for a name that is absent or of another kind.
type Params []Param

// Text returns a parameter of kind text.
func (p Params) Text(name string) string { return value[string](p, name) }

// Bool returns a parameter of kind bool.
func (p Params) Bool(name string) bool { return value[bool](p, name) }

// Int returns a parameter of kind int.
func (p Params) Int(name string) int64 { return value[int64](p, name) }

// Uint returns a parameter of kind uint.
func (p Params) Uint(name string) uint64 { return value[uint64](p, name) }

// Float returns a parameter of kind float.
func (p Params) Float(name string) float64 { return value[float64](p, name) }

// Data returns a parameter of kind data. It belongs to p.
func (p Params) Data(name string) []byte { return value[[]byte](p, name) }

// Has reports whether there is a parameter of that name.
func (p Params) Has(name string) bool {
	return slices.ContainsFunc(p, func(q Param) bool { return q.Name == name })
}

func value[V any](p Params, name string) V {
	for _, q := range p {
		if q.Name == name {
			v, _ := q.Value.(V)
			return v
		}
	}
	var none V
	return none
}

// String says how to give the parameter: "level=INT (1, 3 or 9; default 3)".
func (s ParamSpec) String() string {
	var notes []string
	if n := len(s.Choices); n > 1 {
		notes = append(notes, strings.Join(s.Choices[:n-1], ", ")+" or "+s.Choices[n-1])
	} else if n == 1 {
		notes = append(notes, "only "+s.Choices[0])
	}
	if s.Required {
		notes = append(notes, "required")
	}
	if s.Default != "" {
		notes = append(notes, "default "+s.Default)
	}
	text := s.Name + "=" + strings.ToUpper(s.Kind.String())
	if len(notes) > 0 {
		text += " (" + strings.Join(notes, "; ") + ")"
	}
	return text
}

// ParseParams reads parameters as a person types them, "name=value" each, and
// checks them as CheckParams does. Numbers may be decimal, or hexadecimal with
// 0x; data is hexadecimal behind "0x" or standard base64 behind "base64:".
func ParseParams(specs []ParamSpec, texts []string) (Params, error) {
	c := checker{specs: specs}
	for _, t := range texts {
		name, text, ok := strings.Cut(t, "=")
		if !ok {
			c.complain("%q: write name=value", t)
			continue
		}
		c.take(name, func(s ParamSpec) (any, error) { return s.parse(text) })
	}
	return c.finish()
}

// CheckParams checks parameters against what a capability takes and adds the
// defaults of those left out. A number may come in another numeric kind that
// holds the same value. The error is an ErrInvalidArgument that names all that is
// wrong and hints at what is accepted.
func CheckParams(specs []ParamSpec, params Params) (Params, error) {
	c := checker{specs: specs}
	for _, p := range params {
		c.take(p.Name, func(s ParamSpec) (any, error) { return s.convert(p.Value) })
	}
	return c.finish()
}

// checker gathers the parameters that capability specs take.
type checker struct {
	specs    []ParamSpec
	given    map[string]any // nil stands for a value that was refused
	problems []string
}

func (c *checker) complain(format string, args ...any) {
	c.problems = append(c.problems, fmt.Sprintf(format, args...))
}

// take takes in a parameter whose value get finds.
func (c *checker) take(name string, get func(ParamSpec) (any, error)) {
	i := slices.IndexFunc(c.specs, func(s ParamSpec) bool { return s.Name == name })
	if i < 0 {
		c.complain("%s: there is no such parameter", quote(name))
		return
	}
	if _, twice := c.given[name]; twice {
		c.complain("%s: given twice", name)
		return
	}
	if c.given == nil {
		c.given = make(map[string]any, len(c.specs))
	}
	v, err := get(c.specs[i])
	if err == nil {
		err = c.specs[i].choose(v)
	}
	if err != nil {
		v = nil
		c.complain("%s: %v", name, err)
	}
	c.given[name] = v
}

// finish returns the parameters in the order of the specs.
func (c *checker) finish() (Params, error) {
	var params Params
	for _, s := range c.specs {
		v, given := c.given[s.Name]
		switch {
		case given:
		case s.Required:
			c.complain("%s: missing", s.Name)
		case s.Default != "":
			var err error
			if v, err = s.parse(s.Default); err != nil {
				c.complain("%s: default %v", s.Name, err)
			}
		}
		if v != nil {
			params = append(params, Param{s.Name, v})
		}
	}
	if len(c.problems) == 0 {
		return params, nil
	}
	list := c.problems
	if len(list) > maxProblems {
		list = append(list[:maxProblems:maxProblems], fmt.Sprintf("and %d more", len(list)-maxProblems))
	}
	return nil, NewError(base.Code_invalidArgument, c.accepted(), "%s", strings.Join(list, "; "))
}

func (c *checker) accepted() string {
	if len(c.specs) == 0 {
		return "no parameters are accepted"
	}
	var list []string
	for _, s := range c.specs {
		list = append(list, s.String())
	}
	return "accepted are " + strings.Join(list, ", ")
}

// quote quotes text of unknown length for an error.
func quote(text string) string {
	const most = 64
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}

// parse reads a value of the kind from what a person typed.
func (s ParamSpec) parse(text string) (v any, err error) {
	want := ""
	switch s.Kind {
	case system.ParamKind_text:
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("%s is not UTF-8", quote(text))
		}
		return text, nil
	case system.ParamKind_bool:
		want = "true or false"
		v, err = strconv.ParseBool(text)
	case system.ParamKind_int:
		want = "a whole number of 64 bits"
		v, err = strconv.ParseInt(text, 0, 64)
	case system.ParamKind_uint:
		want = "a whole number of 64 bits that is not negative"
		v, err = strconv.ParseUint(text, 0, 64)
	case system.ParamKind_float:
		want = "a number"
		v, err = strconv.ParseFloat(text, 64)
	case system.ParamKind_data:
		want = `bytes, hexadecimal behind "0x" or base64 behind "base64:"`
		v, err = parseData(text)
	default:
		return nil, fmt.Errorf("%s: there is no kind %d", quote(text), uint16(s.Kind))
	}
	if err != nil {
		return nil, fmt.Errorf("%s is not %s", quote(text), want)
	}
	return v, nil
}

func parseData(text string) ([]byte, error) {
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		return hex.DecodeString(digits)
	}
	if digits, ok := strings.CutPrefix(text, "base64:"); ok {
		return base64.StdEncoding.DecodeString(digits)
	}
	return nil, strconv.ErrSyntax
}

// convert returns v in the type of the kind, if nothing is lost by it.
func (s ParamSpec) convert(v any) (any, error) {
	var ok bool
	switch s.Kind {
	case system.ParamKind_text:
		var text string
		text, ok = v.(string)
		ok = ok && utf8.ValidString(text)
	case system.ParamKind_bool:
		_, ok = v.(bool)
	case system.ParamKind_data:
		var b []byte
		b, ok = v.([]byte)
		v = b
	case system.ParamKind_int:
		switch n := v.(type) {
		case int64:
			ok = true
		case uint64:
			v, ok = int64(n), n <= math.MaxInt64
		}
	case system.ParamKind_uint:
		switch n := v.(type) {
		case uint64:
			ok = true
		case int64:
			v, ok = uint64(n), n >= 0
		}
	case system.ParamKind_float:
		v, ok = float(v)
	}
	if !ok {
		return nil, fmt.Errorf("not of kind %s, as it must be", s.Kind)
	}
	return v, nil
}

// exact is the largest whole number up to which a float64 holds every other.
const exact = 1 << 53

// float returns v as a float64 of the same value.
func float(v any) (f float64, ok bool) {
	switch n := v.(type) {
	case float64:
		return n, true
	case int64:
		return float64(n), -exact <= n && n <= exact
	case uint64:
		return float64(n), n <= exact
	}
	return 0, false
}

// choose refuses a value that is not among the choices, however it is written.
func (s ParamSpec) choose(v any) error {
	if len(s.Choices) == 0 {
		return nil
	}
	for _, text := range s.Choices {
		if c, err := s.parse(text); err == nil && same(c, v) {
			return nil
		}
	}
	return fmt.Errorf("%s is not among its choices", quote(show(v)))
}

// show prints a value as a person would type it.
func show(v any) string {
	if b, ok := v.([]byte); ok {
		return "0x" + hex.EncodeToString(b)
	}
	return fmt.Sprint(v)
}

func same(a, b any) bool {
	if x, ok := a.([]byte); ok {
		y, ok := b.([]byte)
		return ok && bytes.Equal(x, y)
	}
	return a == b
}

func writeParam(w *writer, s compute.Param, p Param) {
	w.text("name", s.SetName, p.Name, maxName)
	switch v := p.Value.(type) {
	case string:
		w.text("text", s.Value().SetText, v, MaxMessage)
	case bool:
		s.Value().SetBool(v)
	case int64:
		s.Value().SetInt(v)
	case uint64:
		s.Value().SetUint(v)
	case float64:
		s.Value().SetFloat(v)
	case []byte:
		w.check("data", s.Value().SetData(nil)) // names the kind even if there are no bytes
		w.data("data", s.Value().SetData, v, MaxMessage)
	default:
		w.fail("value", "a %T is of no kind that travels", v)
	}
}

func readParam(r *reader, s compute.Param) Param {
	p := Param{Name: r.text("name", s.NameBytes, maxName)}
	switch v := s.Value(); v.Which() {
	case compute.Param_value_Which_text:
		p.Value = r.text("text", v.TextBytes, MaxMessage)
	case compute.Param_value_Which_bool:
		p.Value = v.Bool()
	case compute.Param_value_Which_int:
		p.Value = v.Int()
	case compute.Param_value_Which_uint:
		p.Value = v.Uint()
	case compute.Param_value_Which_float:
		p.Value = v.Float()
	case compute.Param_value_Which_data:
		p.Value = r.data("data", v.Data, MaxMessage)
	default:
		r.fail("value", "%d is no kind that this build knows", v.Which())
	}
	return p
}
