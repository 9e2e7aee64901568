"""Client certificates: none, a stranger's, broken ones, and proofs that do not hold."""

import struct

from tlslite.api import X509CertChain
from tlslite.constants import HandshakeType, SignatureScheme
from tlslite.messages import Certificate, CertificateVerify

from client import TLS12, TLS13, Identity, der, handshake, instead, message

CERTIFICATE, VERIFY = HandshakeType.certificate, HandshakeType.certificate_verify


def shown(version, who):
    """By a client that shows this one's certificate, or none."""
    return lambda target: target.served(version=version, identity=target.people[who] if who else None)


def chain(version, *certificates):
    """These bytes where the chain would stand, under a good proof."""

    def case(target):
        made = X509CertChain([der(data) for data in certificates])
        return target.served(
            version=version, identity=Identity(made, target.people["web"].key), tamper=put_chain(version, made)
        )

    return case


def put_chain(version, made):
    """The library signs by what it knows of the chain, so it gets a good one first."""

    def change(_):
        certificate = Certificate(0, version)
        certificate.create(made, b"")
        return certificate

    return instead(CERTIFICATE, change)


def whole(target):
    return [bytes(each.bytes) for each in target.people["web"].chain.x509List]


def with_chain(version, pick):
    """The good identity's handshake, with other certificates in it."""

    def case(target):
        made = X509CertChain([der(data) for data in pick(target)])
        return target.served(version=version, tamper=put_chain(version, made))

    return case


def verify(version, change):
    """The proof of the good identity, changed."""
    return lambda target: target.served(version=version, tamper=instead(VERIFY, change))


def spoilt(msg):
    msg.signature = bytearray(msg.signature)
    msg.signature[-1] ^= 1
    return msg


def scheme(value):
    def change(msg):
        msg.signatureAlgorithm = value
        return msg

    return change


def signature(data):
    def change(msg):
        msg.signature = bytearray(data)
        return msg

    return change


def of_another(version):
    """The good identity's certificate, and the proof of somebody else's key."""

    def case(target):
        web, other = target.people["web"], target.people["stranger"]
        return target.served(version=version, identity=Identity(web.chain, other.key))

    return case


def altered(data, at):
    data = bytearray(data)
    data[at] ^= 1
    return bytes(data)


def context(target):
    """An answer to a request that nobody made."""

    def change(msg):
        body = bytes(msg.write())[4:]
        return handshake(message(CERTIFICATE, b"\3abc" + body[1:]))

    return target.served(version=TLS13, tamper=instead(CERTIFICATE, change))


def list_longer_than_the_message(target):
    def change(msg):
        body = bytearray(msg.write())[4:]
        body[1:4] = struct.pack(">I", len(body) + 100)[1:]
        return handshake(message(CERTIFICATE, body))

    return target.served(version=TLS13, tamper=instead(CERTIFICATE, change))


def unasked(version):
    """Certificate and proof of a client that nobody asked for them."""
    of = HandshakeType.finished if version == TLS13 else HandshakeType.client_key_exchange

    def case(target):
        certificate = Certificate(0, version)
        certificate.create(target.people["web"].chain, b"")
        return target.served(version=version, identity=None, tamper=instead(of, lambda msg: [certificate, msg]))

    return case


def proof_alone(version):
    """A proof where no certificate was shown."""

    def case(target):
        of = HandshakeType.finished
        proof = CertificateVerify(version).create(bytearray(b"0" * 70), SignatureScheme.ecdsa_secp256r1_sha256)
        return target.served(version=version, identity=None, tamper=instead(of, lambda msg: [proof, msg]))

    return case


CASES = {
    "no-certificate": shown(TLS13, None),
    "no-certificate-1.2": shown(TLS12, None),
    "certificate-message-left-out": lambda t: t.served(version=TLS13, tamper=instead(CERTIFICATE, lambda _: None)),
    "certificate-message-left-out-1.2": lambda t: t.served(version=TLS12, tamper=instead(CERTIFICATE, lambda _: None)),
    "certificate-of-a-stranger": shown(TLS13, "stranger"),
    "certificate-of-a-stranger-1.2": shown(TLS12, "stranger"),
    "certificate-of-a-ca": shown(TLS13, "strangers"),
    "certificate-expired": shown(TLS13, "expired"),
    "certificate-of-a-server": shown(TLS13, "server"),
    "certificate-of-rsa": shown(TLS13, "rsa"),
    "certificate-of-rsa-1.2": shown(TLS12, "rsa"),
    "certificate-that-is-none": with_chain(TLS13, lambda t: [b"hello"]),
    "certificate-of-no-bytes": with_chain(TLS13, lambda t: [b""]),
    "certificate-altered": with_chain(TLS13, lambda t: [altered(whole(t)[0], -1)]),
    "certificate-altered-within": with_chain(TLS13, lambda t: [altered(whole(t)[0], 120)]),
    "certificate-cut": with_chain(TLS13, lambda t: [whole(t)[0][:-20]]),
    "certificate-and-rubbish-above": with_chain(TLS13, lambda t: [whole(t)[0], b"hello"]),
    "certificate-a-hundred-times": with_chain(TLS13, lambda t: whole(t)[:1] * 100),
    "certificate-of-60-kb": with_chain(TLS13, lambda t: [bytes(60_000)]),
    "certificate-for-another-request": context,
    "certificate-list-too-long": list_longer_than_the_message,
    "certificate-unasked": unasked(TLS13),
    "certificate-unasked-1.2": unasked(TLS12),
    "proof-left-out": verify(TLS13, lambda _: None),
    "proof-left-out-1.2": verify(TLS12, lambda _: None),
    "proof-altered": verify(TLS13, spoilt),
    "proof-altered-1.2": verify(TLS12, spoilt),
    "proof-of-no-bytes": verify(TLS13, signature(b"")),
    "proof-of-zeros": verify(TLS13, signature(bytes.fromhex("3006020100020100"))),
    "proof-of-another-key": of_another(TLS13),
    "proof-of-another-key-1.2": of_another(TLS12),
    "proof-by-a-scheme-not-offered": verify(TLS13, scheme(SignatureScheme.rsa_pkcs1_sha1)),
    "proof-by-a-scheme-of-another-key": verify(TLS13, scheme(SignatureScheme.rsa_pss_rsae_sha256)),
    "proof-by-a-scheme-of-another-curve": verify(TLS13, scheme(SignatureScheme.ecdsa_secp384r1_sha384)),
    "proof-twice": verify(TLS13, lambda msg: [msg, msg]),
    "proof-without-a-certificate": proof_alone(TLS13),
    "proof-without-a-certificate-1.2": proof_alone(TLS12),
}
