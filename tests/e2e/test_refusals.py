"""Logins that fail: whatever the method, the reason and the phase, the client reads what a direct connection would have read."""
import pytest

import kit
from wire import Closed, Wire, WireError

METHODS = {"trust": "trust", "password": "password", "md5": "md5", "scram": "scram-sha-256"}
REASONS = ("good", "expired", "nologin", "unconnectable", "full", "unknown")
PASSWORD = "the right one"
HBA = "local all all trust\nhost all app,postgres 127.0.0.1/32 trust\nhost all rejected 127.0.0.1/32 reject\n" + "".join(
    f"host all +by_{method},{method}_unknown 127.0.0.1/32 {word}\n" for method, word in METHODS.items())


def roles():
    yield "create role rejected login; create role unmatched login"
    for method in METHODS:
        yield f"create role by_{method}; set password_encryption = '{'md5' if method == 'md5' else 'scram-sha-256'}'"
        for reason, options in (("good", "login"), ("expired", "login valid until '2001-01-01'"), ("nologin", "nologin"),
                                ("unconnectable", "login noinherit"), ("full", "login connection limit 0")):
            yield f"create role {method}_{reason} {options} password '{PASSWORD}' in role by_{method}"


@pytest.fixture(scope="module")
def strict(room):
    """A source and a target with a line in pg_hba.conf for each method, and none for everybody."""
    clusters = [kit.Cluster(room / name, hba=HBA) for name in ("strict-source", "strict-target")]
    for cluster in clusters:
        cluster.sql("; ".join(roles()))
    yield clusters
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def banyan(strict, room):
    name = "strict"
    for cluster in strict:
        cluster.create_database(name)
        cluster.sql("create table t (id int primary key)", name, "app")
        cluster.sql(f"revoke connect on database {name} from public; grant connect on database {name} to app, rejected, unmatched, "
                    + ", ".join(f"by_{method}" for method in METHODS))
    banyan = kit.Banyan(room / "strict", *strict, name, users=("app",)).start()
    yield banyan
    banyan.close()


def login(port, user, password, database):
    """What the login came to: the server's challenges, and the refusal's fields or None."""
    connection = Wire(port, login=False, timeout=30 * kit.SLOW)
    try:
        connection.login(user, database, password, {})
        refusal = None
    except WireError as error:
        refusal = error.fields
    except Closed:
        refusal = "closed without a word"
    connection.close()
    return connection.methods, refusal


def test_every_refusal_is_the_servers_own_in_every_phase(banyan, strict):
    cases = [(user, PASSWORD) for user in ("rejected", "unmatched")]
    cases += [(f"{method}_{reason}", PASSWORD) for method in METHODS for reason in REASONS]
    cases += [(f"{method}_good", wrong) for method in METHODS for wrong in ("a wrong one", "")]
    expected = {"rejected": "28000", "unmatched": "28000", "good": None, "expired": "28P01", "nologin": "28000",
                "unconnectable": "42501", "full": "53300", "unknown": "28P01"}
    for phase, primary in (("INITIAL", strict[0]), ("DUAL_WRITE", strict[0]), ("SWITCHOVER", strict[1])):
        banyan.lead_to(phase)
        for user, password in cases:
            direct = login(primary.port, user, password, banyan.database)
            through = login(banyan.port, user, password, banyan.database)
            assert through == direct, f"{user} with {password!r} in {phase}"
            # And the case is what its name says.
            if password == PASSWORD and not user.startswith("trust_"):
                sqlstate = direct[1] and direct[1]["C"]
                assert sqlstate == expected[user.split("_")[-1]], (user, direct)
