"""Client hellos: lengths, extensions, server names, versions and key shares."""

import struct

from tlslite.constants import CipherSuite, ExtensionType, GroupName, HandshakeType
from tlslite.extensions import ClientKeyShareExtension, KeyShareEntry, TLSExtension

from client import TLS12, TLS13, hello, instead, message, record


def extension(kind, body=b""):
    made = TLSExtension(extType=kind).create(kind, bytearray(body))
    # The library asks its own hello for the name when all is over.
    made.hostNames = []
    return made


def find(msg, kind):
    return next(index for index, each in enumerate(msg.extensions) if each.extType == kind)


def put(kind, body):
    """In place of the extension of this kind, or at the end where there is none."""

    def change(msg):
        msg.extensions = [each for each in msg.extensions if each.extType != kind] + [extension(kind, body)]

    return hello(change)


def without(kind):
    def change(msg):
        del msg.extensions[find(msg, kind)]

    return hello(change)


def also(kind, body=b""):
    return hello(lambda msg: msg.extensions.append(extension(kind, body)))


def field(**values):
    def change(msg):
        for key, value in values.items():
            setattr(msg, key, value)

    return hello(change)


def settings(**values):
    def change(settings):
        for key, value in values.items():
            setattr(settings, key, value)

    return change


def names(*entries):
    """The body of a server_name extension."""
    listed = b"".join(struct.pack(">BH", kind, len(name)) + name for kind, name in entries)
    return struct.pack(">H", len(listed)) + listed


def named(*entries):
    return lambda target: target.served(tamper=put(ExtensionType.server_name, names(*entries)))


def shared(group, key):
    """A key share of this group alone, which the client also names as supported."""

    def change(msg):
        share = ClientKeyShareExtension().create([KeyShareEntry().create(group, bytearray(key))])
        msg.extensions[find(msg, ExtensionType.key_share)] = share
        listed = struct.pack(">HH", 2, group)
        msg.extensions[find(msg, ExtensionType.supported_groups)] = extension(ExtensionType.supported_groups, listed)

    return lambda target: target.served(version=TLS13, tamper=hello(change))


def rebuilt(change):
    """The hello's body as bytes, changed, in a record of its own."""

    def case(target):
        data = bytearray(target.hello()[5:])
        body, length = change(data[4:])
        return target.raw(record(22, message(1, body, length), (3, 1)))

    return case


def oversize(target):
    """As long as a handshake message can be; so much of it as the server takes."""
    piece = record(22, b"x" * 16384)
    first = record(22, message(1, b"x" * 16380, (1 << 24) - 1))
    return target.raw(first, *[piece] * 8)


def long_but_allowed(target):
    return target.served(tamper=also(0x7A7C, bytes(12_000)))


class Retry:
    """Offers a share that the server must ask again about, and changes its mind about something else."""

    def __init__(self, change):
        self.change, self.sent = change, 0

    def __call__(self, target):
        self.sent = 0
        return target.served(version=TLS13, configure=settings(keyShares=[]), tamper=hello(self.edit))

    def edit(self, msg):
        self.sent += 1
        if self.sent == 2:
            self.change(msg)


def other_share(msg):
    key = bytearray(b"\x04" + bytes(96))
    msg.extensions[find(msg, ExtensionType.key_share)] = ClientKeyShareExtension().create(
        [KeyShareEntry().create(GroupName.secp384r1, key)]
    )


def other_name(msg):
    msg.extensions[find(msg, ExtensionType.server_name)] = extension(
        ExtensionType.server_name, names((0, b"other.test"))
    )


def other_suite(msg):
    msg.cipher_suites = [suite for suite in msg.cipher_suites if suite >> 8 != 0x13][:1] + [
        CipherSuite.TLS_AES_128_CCM_SHA256
    ]


def fallback(version, **how):
    """A hello of an earlier version with the value that says so."""
    configured = settings(sendFallbackSCSV=True)
    return lambda target: target.served(version=version, configure=configured, **how)


def sentinel(target):
    """A server of TLS 1.3 that is asked for 1.2 marks its random, under its signature."""
    with target.connect(version=TLS12) as client:
        assert client._serverRandom[-8:] == b"DOWNGRD\x01", bytes(client._serverRandom)
        return client.ask()


def unsupported(version):
    """A hello that offers this version and none after it."""

    def case(target):
        body = bytearray(target.hello(version=TLS12)[9:])
        body[0:2] = bytes(version)
        return target.raw(record(22, message(1, body), (3, 1)))

    return case


def only_versions(*versions):
    listed = b"".join(bytes(version) for version in versions)
    return lambda target: target.served(tamper=put(ExtensionType.supported_versions, bytes([len(listed)]) + listed))


def version_too_high(target):
    """A version from the future in the old field means TLS 1.2 where no extension says more."""
    return target.served(version=TLS12, tamper=field(client_version=(3, 9)))


GREASE = [0x0A0A, 0x1A1A, 0x2A2A, 0xFAFA]


def grease(msg):
    msg.cipher_suites = [0x0A0A, *msg.cipher_suites]
    msg.extensions = [extension(GREASE[1]), *msg.extensions, extension(GREASE[2], b"\0")]


CASES = {
    "hello-longer-than-it-says": rebuilt(lambda body: (body + b"\0\0\0\0", len(body))),
    "hello-with-bytes-left-over": rebuilt(lambda body: (body + b"\0\0\0\0", None)),
    "hello-that-ends-early": rebuilt(lambda body: (body[:40], None)),
    "hello-that-ends-in-an-extension": rebuilt(lambda body: (body[:-3], None)),
    "hello-of-no-bytes": rebuilt(lambda body: (b"", None)),
    "hello-oversize": oversize,
    "hello-of-12-kb": long_but_allowed,
    "hello-session-id-too-long": rebuilt(lambda body: (body[:34] + bytes([33]) + bytes(33) + body[67:], None)),
    "hello-without-suites": lambda t: t.served(tamper=field(cipher_suites=[])),
    "hello-with-odd-suites": rebuilt(
        lambda body: (body[:67] + b"\0\3\x13\1\x13" + body[67 + 2 + int.from_bytes(body[67:69], "big") :], None)
    ),
    "no-suite-in-common": lambda t: t.served(
        version=TLS13, tamper=field(cipher_suites=[CipherSuite.TLS_AES_128_CCM_8_SHA256])
    ),
    "no-suite-in-common-1.2": lambda t: t.served(
        version=TLS12, tamper=field(cipher_suites=[CipherSuite.TLS_RSA_WITH_AES_128_CBC_SHA])
    ),
    "no-group-in-common": shared(GroupName.ffdhe2048, b"\2" * 256),
    "compression-in-1.3": lambda t: t.served(version=TLS13, tamper=field(compression_methods=[1, 0])),
    "compression-without-null": lambda t: t.served(version=TLS12, tamper=field(compression_methods=[1])),
    "extension-twice": lambda t: t.served(tamper=also(ExtensionType.extended_master_secret)),
    "server-name-twice": lambda t: t.served(tamper=also(ExtensionType.server_name, names((0, b"other.test")))),
    "unknown-extension-twice": lambda t: t.served(
        tamper=lambda c, m: also(0x7A7A)(c, also(0x7A7A)(c, m)[0]) if m.contentType == 22 and m.write()[0] == 1 else [m]
    ),
    "unknown-extensions": lambda t: t.served(tamper=also(0x7A7B, b"\xff" * 300)),
    "grease": lambda t: t.served(tamper=hello(grease)),
    "no-key-share": lambda t: t.served(version=TLS13, tamper=without(ExtensionType.key_share)),
    "no-groups": lambda t: t.served(version=TLS13, tamper=without(ExtensionType.supported_groups)),
    "no-signature-algorithms": lambda t: t.served(version=TLS13, tamper=without(ExtensionType.signature_algorithms)),
    "key-share-twice-of-one-group": lambda t: t.served(
        version=TLS13,
        tamper=hello(
            lambda m: m.getExtension(ExtensionType.key_share).client_shares.append(
                m.getExtension(ExtensionType.key_share).client_shares[0]
            )
        ),
    ),
    "share-of-zeros": shared(GroupName.x25519, bytes(32)),
    "share-too-short": shared(GroupName.x25519, bytes(31)),
    "share-not-on-the-curve": shared(GroupName.secp256r1, b"\4" + b"\1" * 64),
    "share-at-infinity": shared(GroupName.secp256r1, b"\0"),
    "hybrid-share-cut": shared(GroupName.x25519mlkem768, b"\1" * 1000),
    "hybrid-share-of-zeros": shared(GroupName.x25519mlkem768, bytes(1184 + 32)),
    "hybrid-share-out-of-range": shared(GroupName.x25519mlkem768, b"\xff" * 1184 + b"\x09" + bytes(31)),
    "retry": Retry(lambda msg: None),
    "retry-with-another-group": Retry(other_share),
    "retry-with-another-name": Retry(other_name),
    "retry-without-the-suite": Retry(other_suite),
    "retry-twice": lambda t: t.served(
        version=TLS13,
        configure=settings(keyShares=[]),
        tamper=instead(
            HandshakeType.client_hello,
            lambda m: setattr(m.getExtension(ExtensionType.key_share), "client_shares", []) or m,
        ),
    ),
    "alpn-nothing-in-common": lambda t: t.served(alpn=[b"imap"]),
    "alpn-of-no-protocols": lambda t: t.served(tamper=put(ExtensionType.alpn, b"\0\0")),
    "alpn-of-an-empty-name": lambda t: t.served(tamper=put(ExtensionType.alpn, b"\0\1\0")),
    "renegotiation-info-not-empty": lambda t: t.served(
        version=TLS12, tamper=put(ExtensionType.renegotiation_info, b"\4abcd")
    ),
    "ssl-3": unsupported((3, 0)),
    "tls-1.0": unsupported((3, 1)),
    "tls-1.1": unsupported((3, 2)),
    "versions-too-old": only_versions((3, 2), (3, 1)),
    "versions-from-the-future": only_versions((3, 9), (5, 5)),
    "versions-empty": only_versions(),
    "version-too-high": version_too_high,
    "fallback-to-1.2": fallback(TLS12),
    "fallback-without-need": fallback(TLS13),
    "downgrade-sentinel": sentinel,
    "name-unknown": named((0, b"nobody.test")),
    "name-of-no-bytes": named((0, b"")),
    "names-none": named(),
    "names-two": named((0, b"open.test"), (0, b"guarded.test")),
    "name-of-another-type": named((9, b"open.test")),
    "name-an-address": named((0, b"127.0.0.1")),
    "name-with-a-nul": named((0, b"open.test\0.example")),
    "name-not-ascii": named((0, "öpen.test".encode())),
    "name-with-spaces": named((0, b"open test")),
    "name-of-300-bytes": named((0, b".".join([b"a" * 59] * 5))),
    "name-of-dots": named((0, b"..")),
    "name-cut": lambda t: t.served(tamper=put(ExtensionType.server_name, names((0, b"open.test"))[:-2])),
    "name-in-capitals": lambda t: t.served(tamper=put(ExtensionType.server_name, names((0, t.host.upper().encode())))),
    "name-with-a-last-dot": lambda t: t.served(
        tamper=put(ExtensionType.server_name, names((0, t.host.encode() + b".")))
    ),
    "name-absent": lambda t: t.served(tamper=without(ExtensionType.server_name)),
}
