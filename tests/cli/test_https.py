"""`luthier serve` with a certificate of its own making."""

import datetime
import ipaddress
import ssl

import httpx2
import openai
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.child import served
from tests.conftest import KEY


@pytest.fixture
def pair(tmp_path):
    """A certificate for 127.0.0.1, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "luthier")])
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = made.add_extension(addresses, critical=False).sign(key, hashes.SHA256())
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    cert_file, key_file = tmp_path / "chain.pem", tmp_path / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return cert_file, key_file


def test_a_server_with_a_certificate_speaks_https_alone(tmp_path, pair):
    cert, key = pair
    with served(tmp_path, "--tls-cert", cert, "--tls-key", key) as (_, url):
        assert url.startswith("https://127.0.0.1:")
        trusting = httpx2.Client(verify=ssl.create_default_context(cafile=cert))
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, http_client=trusting) as client:
            assert [model.id for model in client.models.list()]
            words = [{"role": "user", "content": "hi"}]
            assert client.chat.completions.create(model="tiny", messages=words).choices[0].message.content == "hi"
        with pytest.raises(httpx2.TransportError):
            httpx2.get(url.replace("https", "http"))
        with pytest.raises(httpx2.ConnectError, match="certificate"):
            httpx2.get(url)
