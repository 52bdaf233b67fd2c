#!/usr/bin/env python3
"""A gRPC stack that is not ours, knowing nothing but reflection, works with the control plane.

    pip install grpcio grpcio-reflection
    grpc_reflection.py --target 127.0.0.1:7440 --token-file DATA_DIR/operator.token

Reads the services and messages from the server, checks health, is refused without a token, then applies, lists, gets
and deletes an adapter of its own. Prints what it checked; exit code 0: all of it holds, 1: something does not.
"""

import argparse
import json
import sys

# This file has the name of the package it needs, and Python looks in its folder first.
sys.path.pop(0)

import grpc
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

DEADLINE_S = 10
ADAPTER = "foreign-grpc-reflection"
DOCUMENT = f"kind: Adapter\nname: {ADAPTER}\nspec: {{ kind: echo, models: [ {{ name: foreign-echo }} ] }}\n"


class Service:
    """Calls the methods of one service as the server describes them."""

    def __init__(self, channel, pool, name, metadata):
        self.channel, self.metadata = channel, metadata
        self.methods = {method.name: method for method in pool.FindServiceByName(name).methods}
        self.name = name

    def call(self, name, fields, metadata=None):
        method = self.methods[name]
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        answer = message_factory.GetMessageClass(method.output_type)
        unary = self.channel.unary_unary(
            f"/{self.name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        metadata = self.metadata if metadata is None else metadata
        return unary(request, timeout=DEADLINE_S, metadata=metadata)


class Checks:
    def __init__(self):
        self.failed = 0

    def that(self, what, holds, found=None):
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'}  {what}" + ("" if holds else f": {found!r}"))

    def refuses(self, what, code, call):
        try:
            self.that(what, False, call())
        except grpc.RpcError as error:
            self.that(what, error.code() == code, error)


def check(channel, token):
    checks = Checks()
    database = ProtoReflectionDescriptorDatabase(channel)
    services = set(database.get_services())
    wanted = {"atp.admin.v1.Resources", "atp.admin.v1.Operations", "atp.control.v1.Sync", "grpc.health.v1.Health"}
    checks.that("reflection lists every service", wanted <= services, services)

    pool = descriptor_pool.DescriptorPool(database)
    metadata = (("authorization", f"Bearer {token}"),)
    health = Service(channel, pool, "grpc.health.v1.Health", ())
    resources = Service(channel, pool, "atp.admin.v1.Resources", metadata)
    operations = Service(channel, pool, "atp.admin.v1.Operations", metadata)

    serving = health.call("Check", {"service": "atp.admin.v1.Resources"}).status
    checks.that("health says serving, without a token", serving == 1, serving)
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    checks.refuses("a list without a token is refused", unauthenticated, lambda: resources.call("List", {}, ()))
    wrong = (("authorization", "Bearer " + "0" * 64),)
    checks.refuses("a list with a wrong token is refused", unauthenticated, lambda: resources.call("List", {}, wrong))

    source = {"file": "foreign.yaml", "content": DOCUMENT.encode()}
    applied = resources.call("Apply", {"sources": [source]})
    verbs = [(change.kind, change.name, change.verb) for change in applied.changes]
    checks.that("an apply creates the adapter", verbs == [("Adapter", ADAPTER, 1)], applied)
    again = resources.call("Apply", {"sources": [source]})
    checks.that("the same apply again changes nothing", [change.verb for change in again.changes] == [3], again)
    same = again.generation == applied.generation
    checks.that("and makes no generation", same, (applied.generation, again.generation))

    listed = resources.call("List", {"kind": "Adapter"}).resources
    names = [resource.name for resource in listed]
    checks.that("a list holds it", ADAPTER in names, names)
    got = json.loads(resources.call("Get", {"kind": "Adapter", "name": ADAPTER}).json)
    checks.that("a get gives it as JSON", got["spec"]["models"] == [{"name": "foreign-echo"}], got)

    typo = {"file": "typo.yaml", "content": DOCUMENT.replace("models", "modles").encode()}
    mistakes = resources.call("Apply", {"sources": [typo]}).mistakes
    places = [(mistake.file, mistake.line, mistake.path) for mistake in mistakes]
    checks.that("a typo comes back with its line", ("typo.yaml", 3, "spec.modles") in places, places)

    number = operations.call("Status", {}).generation.number
    checks.that("status counts generations", number >= applied.generation.number > 0, number)
    deleted = resources.call("Delete", {"kind": "Adapter", "name": ADAPTER})
    checks.that("a delete deletes it", [change.verb for change in deleted.changes] == [4], deleted)
    gone = {"kind": "Adapter", "name": ADAPTER}
    checks.refuses("a get of it finds nothing", grpc.StatusCode.NOT_FOUND, lambda: resources.call("Get", gone))
    return checks.failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True, help="host:port of the control plane's gRPC")
    parser.add_argument("--token-file", required=True, help="the operator's token")
    args = parser.parse_args()
    with open(args.token_file, encoding="ascii") as file:
        token = file.read().strip()
    with grpc.insecure_channel(args.target) as channel:
        try:
            failed = check(channel, token)
        except grpc.RpcError as error:
            print(f"FAIL  a call that should work: {error.code()}: {error.details()}")
            failed = 1
    print("all checks hold" if failed == 0 else f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
