// Package peers asks other programs to do what r2rec does, so that a benchmark can print both figures of one run: a real
// Ollama that reads and writes text, and PyTorch that trains an adapter.
//
// What it promises: a figure was measured by the peer itself, on the same work, or there is an error that says why there
// is none. Nothing is installed or started, but for a Python program that ends with the call.
//
// What it leaves to others: installing the peers (deploy/dev for Ollama, the head of pytorch_lora.py for PyTorch), and
// what the figures are compared with.
package peers
