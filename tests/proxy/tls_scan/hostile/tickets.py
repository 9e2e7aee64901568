"""Sessions and tickets: foreign, cut, altered, and where they do not belong."""

from tlslite.constants import ExtensionType
from tlslite.extensions import TLSExtension
from tlslite.utils.cryptomath import getRandomBytes

from client import TLS12, TLS13, hello


def held(target, version, name=None):
    with target.connect(version=version) as client:
        session = client.held(name or target.host)
    if version == TLS12:
        # Sent back by a server that takes the ticket (RFC 5077 §3.4).
        session.sessionID = getRandomBytes(32)
    assert session.tickets if version == TLS13 else session.tls_1_0_tickets, "the server gave no ticket"
    return session


def again(target, version, session, **how):
    """The session shown to the same host, by a client without a certificate."""
    return target.served(version=version, session=session, identity=None, **how)


def rightly(version):
    return lambda target: again(target, version, held(target, version))


def changed(version, change):
    """A ticket's bytes."""

    def case(target):
        session = held(target, version)
        for ticket in session.tickets if version == TLS13 else session.tls_1_0_tickets:
            ticket.ticket = bytearray(change(bytes(ticket.ticket)))
        return again(target, version, session)

    return case


def spoilt(at):
    def change(data):
        data = bytearray(data)
        data[at] ^= 1
        return data

    return change


def psk(change):
    """The pre_shared_key extension, after its binders were made."""

    def case(target):
        tamper = hello(lambda msg: change(msg, msg.getExtension(ExtensionType.pre_shared_key)))
        return again(target, TLS13, held(target, TLS13), tamper=tamper)

    return case


def binder_spoilt(_, offer):
    offer.binders[0][-1] ^= 1


def binder_short(_, offer):
    offer.binders[0] = offer.binders[0][:-1]


def binder_missing(_, offer):
    offer.binders = []


def binder_too_many(_, offer):
    offer.binders.append(bytearray(32))


def no_identities(_, offer):
    offer.identities, offer.binders = [], []


def not_last(msg, _):
    msg.extensions.append(TLSExtension(extType=0x7A7B).create(0x7A7B, bytearray()))


def no_modes(msg, _):
    msg.extensions = [each for each in msg.extensions if each.extType != ExtensionType.psk_key_exchange_modes]


def no_share(msg, _):
    """Without a key exchange of its own the session would be as good as its ticket."""
    msg.extensions = [
        each for each in msg.extensions if each.extType not in (ExtensionType.key_share, ExtensionType.supported_groups)
    ]


def elsewhere(version, to, whose="required", identity=None):
    """A session of one host, shown to another one with another policy."""

    def case(target):
        session = held(target.others[whose], version, target.others[to].host)
        return target.others[to].served(
            version=version, session=session, identity=target.people[identity] if identity else None
        )

    return case


def by_number(to, whose):
    """A session of TLS 1.2 by its number, by a client that says nothing of tickets."""
    alone = hello(lambda msg: msg.extensions.remove(msg.getExtension(ExtensionType.session_ticket)))

    def case(target):
        with target.others[whose].connect(version=TLS12, tamper=alone) as client:
            session = client.held(target.others[to].host)
        assert session.sessionID and not session.tls_1_0_tickets
        return target.others[to].served(version=TLS12, session=session, identity=None, tamper=alone)

    return case


def without_master(target):
    """A session whose keys are bound to its handshake, resumed by a client that does not say that it binds them."""
    tamper = hello(lambda msg: msg.extensions.remove(msg.getExtension(ExtensionType.extended_master_secret)))
    return again(target, TLS12, held(target, TLS12), tamper=tamper)


def early_without_ticket(target):
    put = hello(
        lambda msg: msg.extensions.insert(
            0, TLSExtension(extType=ExtensionType.early_data).create(ExtensionType.early_data, bytearray())
        )
    )
    return target.served(version=TLS13, tamper=put)


CASES = {
    "ticket": rightly(TLS13),
    "ticket-1.2": rightly(TLS12),
    "ticket-of-nobody": changed(TLS13, lambda data: getRandomBytes(len(data))),
    "ticket-of-nobody-1.2": changed(TLS12, lambda data: getRandomBytes(len(data))),
    "ticket-cut": changed(TLS13, lambda data: data[:-1]),
    "ticket-cut-1.2": changed(TLS12, lambda data: data[:-1]),
    "ticket-of-one-byte": changed(TLS13, lambda data: b"x"),
    "ticket-of-one-byte-1.2": changed(TLS12, lambda data: b"x"),
    "ticket-of-30-kb": changed(TLS13, lambda data: bytes(30_000)),
    "ticket-altered": changed(TLS13, spoilt(-1)),
    "ticket-altered-1.2": changed(TLS12, spoilt(-1)),
    "ticket-with-another-key-name": changed(TLS13, spoilt(0)),
    "binder-altered": psk(binder_spoilt),
    "binder-too-short": psk(binder_short),
    "binder-missing": psk(binder_missing),
    "binder-too-many": psk(binder_too_many),
    "ticket-offer-of-none": psk(no_identities),
    "ticket-offer-not-last": psk(not_last),
    "ticket-without-modes": psk(no_modes),
    "ticket-without-a-share": psk(no_share),
    "early-content-without-a-ticket": early_without_ticket,
    "ticket-without-its-master-secret": without_master,
}
# At the listener whose hosts differ; where from and where to is in the name.
CASES |= {
    f"ticket-{name}{suffix}": elsewhere(version, to, whose, identity)
    for version, suffix in ((TLS13, ""), (TLS12, "-1.2"))
    for name, whose, to, identity in (
        ("from-open-to-required", "open", "required", None),
        ("from-required-to-open", "required", "open", None),
        ("from-required-to-another-policy", "required", "other", None),
        ("and-the-wrong-certificate-to-another-policy", "required", "other", "web"),
    )
}
CASES |= {
    "session-number-from-open-to-required": by_number("required", "open"),
    "session-number-to-another-policy": by_number("other", "required"),
    "session-number": by_number("required", "required"),
}
