// Judges our log with the packages that Go's own command checks modules with: golang.org/x/mod/sumdb/{note,tlog}.
//
// Each line of standard input is a question, each line of standard output its answer:
//
//	{"note": text, "vkeys": [...]}
//	{"record": {"path": [...], "size": n, "root": ..., "index": n, "leaf": hash, "body": data}}
//	{"tree": {"path": [...], "size": n, "root": ..., "oldSize": n, "oldRoot": ...}}
//	{"batch": [questions]}
//
// with byte strings in base64. The answer is {"accepted": true}, with the text of a note and the names of those who
// signed it, or {"accepted": false, "message": ...}; of a batch, {"answers": [...]}.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Note   string
	VKeys  []string
	Record *record
	Tree   *tree
	Batch  []question
}

// The leaf is given by its hash or, where that is missing, by its data.
type record struct {
	Path  [][]byte
	Size  int64
	Root  []byte
	Index int64
	Leaf  []byte
	Body  []byte
}

type tree struct {
	Path    [][]byte
	Size    int64
	Root    []byte
	OldSize int64
	OldRoot []byte
}

type answer struct {
	Accepted bool     `json:"accepted"`
	Message  string   `json:"message,omitempty"`
	Text     string   `json:"text,omitempty"`
	Signers  []string `json:"signers,omitempty"`
	Answers  []answer `json:"answers,omitempty"`
}

func hashes(given ...[]byte) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(given))
	for i, bytes := range given {
		if len(bytes) != tlog.HashSize {
			return nil, errors.New("a hash of another length")
		}
		copy(out[i][:], bytes)
	}
	return out, nil
}

func checkNote(text string, vkeys []string) (*note.Note, error) {
	var known []note.Verifier
	for _, vkey := range vkeys {
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			return nil, err
		}
		known = append(known, verifier)
	}
	return note.Open([]byte(text), note.VerifierList(known...))
}

func checkRecord(r *record) error {
	path, err := hashes(r.Path...)
	if err != nil {
		return err
	}
	leaf := r.Leaf
	if leaf == nil {
		hash := tlog.RecordHash(r.Body)
		leaf = hash[:]
	}
	given, err := hashes(r.Root, leaf)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(path, r.Size, given[0], r.Index, given[1])
}

func checkTree(t *tree) error {
	path, err := hashes(t.Path...)
	if err != nil {
		return err
	}
	given, err := hashes(t.Root, t.OldRoot)
	if err != nil {
		return err
	}
	return tlog.CheckTree(path, t.Size, given[0], t.OldSize, given[1])
}

func reply(q question) answer {
	var err error
	switch {
	case q.Batch != nil:
		all := answer{Accepted: true}
		for _, one := range q.Batch {
			all.Answers = append(all.Answers, reply(one))
		}
		return all
	case q.Record != nil:
		err = checkRecord(q.Record)
	case q.Tree != nil:
		err = checkTree(q.Tree)
	default:
		var opened *note.Note
		if opened, err = checkNote(q.Note, q.VKeys); err == nil {
			signers := []string{}
			for _, signature := range opened.Sigs {
				signers = append(signers, signature.Name)
			}
			return answer{Accepted: true, Text: opened.Text, Signers: signers}
		}
	}
	if err != nil {
		return answer{Message: err.Error()}
	}
	return answer{Accepted: true}
}

func main() {
	questions, answers := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for questions.More() {
		var q question
		if err := questions.Decode(&q); err != nil {
			panic(err)
		}
		if err := answers.Encode(reply(q)); err != nil {
			panic(err)
		}
	}
}
