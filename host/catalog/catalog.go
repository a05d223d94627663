// Package catalog knows the binaries that an operator offers to the node: it
// reads the plugins folder, says of every file whether it can be a plugin and if
// not why, and copies what may run into a private store.
//
// Package node calls it: Scan and Inspect look without changing anything, a Watcher
// says when something in the folder has changed and is stable again, and versions lie side by side in the Store, each
// under its digest, so that an older one can be taken back.
//
// It never runs a file and never decides what a plugin may do. It never lets a
// file of the folder itself be run: between a look and a start its bytes could
// be exchanged. What runs is the copy in the store, whose digest was taken from
// the bytes that were copied and then checked again on the copy.
package catalog
