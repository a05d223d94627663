// Package house keeps the tree in order. Its tests are rules over the sources
// themselves: which room may import which, where unsafe may stand, what must be
// documented, that generated files are current and that links lead somewhere.
//
// Each rule is a function from a file system to a list of complaints, so that
// it runs over the real tree and, beside it, over a few small invented files
// that prove it can fail. The rules read every file whatever its build
// constraints, and need no package to compile.
//
// The package exports nothing and nobody imports it. It never changes a file of
// the tree.
package house
