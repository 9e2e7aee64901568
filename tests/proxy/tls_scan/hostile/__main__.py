"""Plays the cases that standard input names, one `case place` a line, and says how each ended.

    python hostile DIRECTORY NAME=HOST:PORT:SERVER_NAME:IDENTITY…

DIRECTORY has `root.pem` and a certificate and a key for everybody. After each case an ordinary client asks the same
host, by another library.
"""

import socket
import ssl
import sys
from pathlib import Path

import flow
import hellos
import identity
import records
import tickets
from client import PATIENCE, Identity, Target, outcome

MODULES = (hellos, records, flow, identity, tickets)


def ordinary(directory, target, name):
    context = ssl.create_default_context(cafile=directory / "root.pem")
    if name:
        context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    with (
        socket.create_connection(target.address, PATIENCE) as wire,
        context.wrap_socket(wire, server_hostname=target.host) as session,
    ):
        session.sendall(f"GET / HTTP/1.1\r\nHost: {target.host}\r\nConnection: close\r\n\r\n".encode())
        return session.recv(12).decode()


def main(directory, *places):
    directory = Path(directory)
    people = {
        file.stem: Identity.load(directory, file.stem)
        for file in directory.glob("*.pem")
        if file.with_suffix(".key").exists()
    }
    targets, own, others = {}, {}, {}
    for place in places:
        place, address = place.split("=")
        host, port, name, whose = address.split(":")
        own[place] = whose or None
        targets[place] = Target((host, int(port)), name, people[whose] if whose else None, people, others)
    others.update(targets)
    cases = {}
    for module in MODULES:
        assert not cases.keys() & module.CASES.keys(), module
        cases |= module.CASES
    played = set()
    for line in sys.stdin:
        case, place = line.split()
        played.add(case)
        target = targets[place]
        said = outcome(cases[case], target)
        served = ordinary(directory, target, own[place])
        if served != "HTTP/1.1 200":
            said += f", and then an ordinary client heard {served!r}"
        print(case, place, said, sep="\t", flush=True)
    for case in cases.keys() - played:
        print(case, "nowhere", "is not in the table", sep="\t")


main(*sys.argv[1:])
