// Checks checkpoints and proofs of Merkle logs with the code of Go's checksum database.
//
// One JSON document on standard input, one on standard output: for every note, tree and proof whether it holds.
// A proof holds when golang.org/x/mod/sumdb/tlog accepts it, and when it is the one that tlog itself makes of the leaves.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Notes []struct {
		Note string `json:"note"`
		Key  string `json:"key"`
	} `json:"notes"`
	Leaves    [][]byte `json:"leaves"`
	Roots     []proven `json:"roots"`
	Inclusion []proven `json:"inclusion"`
	Growth    []proven `json:"consistency"`
}

// proven is a root of the first Size leaves, and a proof of the leaf or the earlier size Of.
type proven struct {
	Of    int64    `json:"of"`
	Size  int64    `json:"size"`
	Root  []byte   `json:"root"`
	Proof [][]byte `json:"proof"`
}

type answer struct {
	Texts     []string `json:"texts"`
	Roots     []string `json:"roots"`
	Inclusion []string `json:"inclusion"`
	Growth    []string `json:"consistency"`
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	log := tree(asked.Leaves)
	found := answer{[]string{}, []string{}, []string{}, []string{}}
	for _, each := range asked.Notes {
		found.Texts = append(found.Texts, opened(each.Note, each.Key))
	}
	for _, each := range asked.Roots {
		found.Roots = append(found.Roots, said(log.root(each)))
	}
	for _, each := range asked.Inclusion {
		found.Inclusion = append(found.Inclusion, said(log.included(each)))
	}
	for _, each := range asked.Growth {
		found.Growth = append(found.Growth, said(log.grown(each)))
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func opened(text, key string) string {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return "error: " + err.Error()
	}
	found, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return "error: " + err.Error()
	}
	return found.Text
}

// stored is the tree as tlog keeps it: hashes in the order in which leaves complete them.
type stored []tlog.Hash

func (log stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, index := range indexes {
		if index < 0 || index >= int64(len(log)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found = append(found, log[index])
	}
	return found, nil
}

func tree(leaves [][]byte) stored {
	var log stored
	for index, leaf := range leaves {
		hashes, err := tlog.StoredHashes(int64(index), leaf, log)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		log = append(log, hashes...)
	}
	return log
}

func (log stored) root(stated proven) error {
	root, err := tlog.TreeHash(stated.Size, log)
	if err != nil {
		return err
	}
	return same("root", root[:], stated.Root)
}

func (log stored) included(stated proven) error {
	leaves, err := log.ReadHashes([]int64{tlog.StoredHashIndex(0, stated.Of)})
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(hashes(stated.Proof), stated.Size, hash(stated.Root), stated.Of, leaves[0]); err != nil {
		return err
	}
	made, err := tlog.ProveRecord(stated.Size, stated.Of, log)
	if err != nil {
		return err
	}
	return sameProof(made, stated.Proof)
}

func (log stored) grown(stated proven) error {
	earlier, err := tlog.TreeHash(stated.Of, log)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(hashes(stated.Proof), stated.Size, hash(stated.Root), stated.Of, earlier); err != nil {
		return err
	}
	made, err := tlog.ProveTree(stated.Size, stated.Of, log)
	if err != nil {
		return err
	}
	return sameProof(made, stated.Proof)
}

func hash(value []byte) tlog.Hash {
	var made tlog.Hash
	copy(made[:], value)
	return made
}

func hashes(values [][]byte) []tlog.Hash {
	var made []tlog.Hash
	for _, value := range values {
		made = append(made, hash(value))
	}
	return made
}

func sameProof(made []tlog.Hash, stated [][]byte) error {
	if len(made) != len(stated) {
		return fmt.Errorf("%d hashes instead of %d", len(stated), len(made))
	}
	for index, value := range made {
		if err := same("hash of the proof", value[:], stated[index]); err != nil {
			return err
		}
	}
	return nil
}

func same(what string, wanted, stated []byte) error {
	if !bytes.Equal(wanted, stated) {
		return fmt.Errorf("%s %x instead of %x", what, stated, wanted)
	}
	return nil
}
