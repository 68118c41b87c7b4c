import string
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.errors import CallbackError, SettingsError
from mbd.settings import Settings
from mbd.workflow.callbacks.addresses import is_public, resolve
from mbd.workflow.callbacks.policy import LONGEST, Target, UrlPolicy

PUBLIC = ip_address("93.184.216.34")


def policy(*answers: str, **settings: list[str]) -> UrlPolicy:
    """A deployment's policy, in a world where every name has these addresses."""
    found = tuple(map(ip_address, answers)) or (PUBLIC,)
    return UrlPolicy.of(Settings(**settings), resolve=lambda _name: found)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com", Target("https", "hooks.example.com", 443, "/", False)),
        ("https://hooks.example.com/", Target("https", "hooks.example.com", 443, "/", False)),
        ("https://Hooks.EXAMPLE.com:8443/A?b=c/d?e", Target("https", "hooks.example.com", 8443, "/A?b=c/d?e", False)),
        ("https://hooks.example.com?token=%2F", Target("https", "hooks.example.com", 443, "/?token=%2F", False)),
        ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/", False)),
        ("https://3com.example/a@b:c", Target("https", "3com.example", 443, "/a@b:c", False)),
    ],
)
def test_a_public_https_url_is_admitted(url, target):
    assert policy().admit(url) == target
    assert policy().admit(target.url) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "//hooks.example.com/",
        "http://hooks.example.com/",
        "HTTPS://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "javascript:alert(1)",
        "https:hooks.example.com",
        "https:/hooks.example.com",
        "https:///hooks.example.com",
        "https://",
        "https://?q",
        " https://hooks.example.com/",
        "https://hooks.example.com/ ",
        "https://hooks.example.com/\n",
        "https://hooks.example.com\r\nHost: internal/",
        "https://hooks.example.com/a\tb",
        "https://hooks.example.com/\0",
        "https://hooks.example.com/\x7f",
        "https://hooks.example.com/%",
        "https://hooks.example.com/%0",
        "https://hooks.example.com/%zz",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/<a>",
        "https://hooks.example.com/ä",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://127.0.0.1\\.example.com/",
        "https:\\\\hooks.example.com/",
        "https://user@hooks.example.com/",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com@127.0.0.1/",
        "https://hooks.example.com:443@127.0.0.1/",
        "https://hooks.example.com#@127.0.0.1/",
        "https://hooks.example.com:/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:0443/",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:80/",
        "https://hooks.example.com:65979/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:443:443/",
        "https://hooks.example.com:+443/",
        "https://hooks.example.com:４４３/",
        "https://hooks.example.com./",
        "https://.hooks.example.com/",
        "https://hooks..example.com/",
        "https://-hooks.example.com/",
        "https://hooks-.example.com/",
        "https://ho_oks.example.com/",
        "https://*.example.com/",
        "https://hooks%2eexample.com/",
        f"https://{'a' * 64}.example.com/",
        f"https://{'a.' * 127}com/",
        f"https://hooks.example.com/{'a' * LONGEST}",
        "https://localhost/",
        "https://intranet/",
        "https://metadata/",
        "https://127.0.0.1/",
        "https://127.0.0.1:8443/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0/",
        "https://2130706433/",
        "https://017700000001/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.0.0.01/",
        "https://127.0.0.1./",
        "https://1.1.1.1/",
        "https://256.1.1.1/",
        "https://1.2.3.4.5/",
        "https://hooks.example.1/",
        "https://hooks.example.0x1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[::1]/",
        "https://[::]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fd00:ec2::254]/",
        "https://[2606:4700:4700::1111]/",
        "https://[127.0.0.1]/",
        "https://[::1/",
        "https://::1/",
        "https://[]/",
        "https://[::1].example.com/",
        "https://１２７.０.０.１/",
        "https://①②⑦.0.0.1/",
        "https://127。0。0。1/",
        "https://bücher.example/",
        "https://hooks.ex\u0430mple.com/",  # a Cyrillic a
        "https://hooks.example.com\u2044@127.0.0.1/",
        "https://hooks.example.com\uff0f127.0.0.1/",
        "https://hooks\u200b.example.com/",
        "https://hooks\u00ad.example.com/",
        "https://\u212a.example.com/",  # a Kelvin sign, which lower() makes a k
        "https://hooks.example.com\ud800/",
    ],
)
def test_a_url_of_bad_form_is_refused_and_not_repeated(url):
    with pytest.raises(CallbackError) as refused:
        policy().admit(url)
    assert len(url) < 9 or url not in str(refused.value)


@given(st.text(alphabet=string.printable + "äａ。\u2044\0", max_size=40))
def test_whatever_follows_the_scheme_it_leads_to_the_judged_host_or_nowhere(rest):
    try:
        target = policy().read(f"https://{rest}")
    except CallbackError:
        return
    assert rest.lower().startswith(target.host)
    assert rest[len(target.host) : len(target.host) + 1] in {"", "/", "?", ":"}
    assert target.port in {443, 8443}
    assert target.path.isascii()
    assert target.path.isprintable()


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",  # noqa: S104
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "100.100.100.200",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "168.63.129.16",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:10.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "2001::1",
        "2001:0:7f00:1::",
        "2001:2::1",
        "2001:10::1",
        "2001:20::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "2002:a9fe:a9fe::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_an_address_that_is_not_public_is_refused_alone_and_among_others(address):
    assert not is_public(ip_address(address))
    for answers in ((address,), (str(PUBLIC), address), (address, str(PUBLIC))):
        with pytest.raises(CallbackError, match="no public address"):
            policy(*answers).admit("https://hooks.example.com/")


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "172.32.0.0",
        "223.255.255.255",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "2001:200::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
    ],
)
def test_a_public_address_is_public(address):
    assert is_public(ip_address(address))


@given(st.ip_addresses(v=4) | st.ip_addresses(v=6))
def test_nothing_is_public_that_the_standard_library_calls_private(address: IPv4Address | IPv6Address):
    if is_public(address) and getattr(address, "ipv4_mapped", None) is None:
        assert address.is_global
        assert not address.is_multicast


def test_a_name_without_an_address_is_refused_in_the_same_words_as_a_private_one():
    def nowhere(_name):
        raise OSError

    with pytest.raises(CallbackError) as nobody:
        UrlPolicy(resolve=nowhere).admit("https://hooks.example.com/")
    with pytest.raises(CallbackError) as private:
        policy("10.0.0.1").admit("https://hooks.example.com/")
    assert str(nobody.value) == str(private.value)


def test_a_name_is_not_searched_for_in_our_own_domains():
    asked = []
    UrlPolicy(resolve=lambda name: asked.append(name) or (PUBLIC,)).admit("https://hooks.example.com/")
    assert asked == ["hooks.example.com."]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/a",
        "http://[::1]:9000/",
        "http://localhost/",
        "http://localhost:3000/",
        "https://hooks.corp.example:444/",
        "https://in.example.com/",
    ],
)
def test_what_the_operator_allows_is_admitted(url):
    allow = ["127.0.0.1:8000", "[::1]:9000", "localhost", "hooks.corp.example:444", "10.0.0.0/8"]
    rules = policy("10.9.9.9", callback_allow=allow)
    assert rules.admit(url).url == url
    with pytest.raises(CallbackError):
        policy("10.9.9.9").admit(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8001/",
        "http://127.0.0.1/",
        "http://localhost:65536/",
        "http://hooks.corp.example/",
        "http://in.example.com/",
        "http://10.1.2.3/",
        "https://10.1.2.3/",
        "http://[::ffff:10.1.2.3]/",
        "https://sub.localhost/",
    ],
)
def test_an_entry_of_the_allow_list_allows_no_more_than_it_says(url):
    allow = ["127.0.0.1:8000", "localhost", "hooks.corp.example:444", "10.0.0.0/8"]
    with pytest.raises(CallbackError):
        policy("127.0.0.1", callback_allow=allow).admit(url)


def test_only_the_domains_that_the_operator_names_are_called():
    rules = policy(callback_hosts=["Example.com", "partner.example"], callback_allow=["hooks.corp.example"])
    for url in ("https://example.com/", "https://a.b.example.com/", "https://partner.example/"):
        assert rules.admit(url).url == url
    assert rules.admit("http://hooks.corp.example/").listed
    for url in ("https://badexample.com/", "https://example.com.evil.example/", "https://example.org/"):
        with pytest.raises(CallbackError, match="domain"):
            rules.admit(url)


@pytest.mark.parametrize(
    "entry", ["", "*", "https://a.example", "a.example:0", "a.example/24", "10.0.0.1/8", "127.1", "a b"]
)
def test_an_entry_that_is_neither_host_nor_network_is_an_error(entry):
    with pytest.raises(SettingsError, match="MBD_CALLBACK_ALLOW"):
        policy(callback_allow=[entry])


@pytest.mark.parametrize("entry", ["", "*.example.com", ".example.com", "10.0.0.0/8", "https://example.com"])
def test_a_domain_that_is_none_is_an_error(entry):
    with pytest.raises(SettingsError, match="MBD_CALLBACK_HOSTS"):
        policy(callback_hosts=[entry])


def test_the_system_finds_this_machine_and_nothing_for_a_name_that_is_reserved():
    assert ip_address("127.0.0.1") in resolve("localhost")
    with pytest.raises(OSError, match=r"."):
        resolve("nowhere.invalid.")
