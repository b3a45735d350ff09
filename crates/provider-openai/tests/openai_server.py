"""Serves one GGUF file over the OpenAI protocol on loopback, for tests: llama.cpp's own server, out of a Python package.

usage: openai_server.py MODEL [embeddings]

Says `listening URL` once it serves, on a port that the machine chose, and ends when its standard input does: a test that
dies takes its server along.
"""

import socket
import sys

import xllamacpp


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serve(model, embeddings):
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.n_ctx = 2048
    params.n_parallel = 1
    # More threads than free cores spin at their barriers.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.hostnames = ["127.0.0.1"]
    params.port = free_port()
    if embeddings:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(params)


server = serve(sys.argv[1], "embeddings" in sys.argv[2:])
print("listening", server.listening_address, flush=True)
sys.stdin.read()
