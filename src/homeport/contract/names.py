"""Names and URLs: which names are valid, and the host of an endpoint.

The rules are those of the behaviour spec, sections 1.1 and 4.
"""

import hashlib
import re

MAX_HOST = 63  # one DNS label, RFC 1035 section 2.3.4
MAX_INPUTS = 1000

_NAME = re.compile(r"[a-zA-Z0-9\-_.]+\Z")
_APP_ID = re.compile(r"ap-[a-zA-Z0-9]{22}\Z")
_VOLUME_ID = re.compile(r"vo-[0-9a-f]{22}\Z")
_ENVIRONMENT = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_]{0,63}\Z")
_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_LABEL = re.compile(r"(?![0-9]+\Z)(?!-)[a-z0-9-]{1,63}(?<!-)\Z")
_TAG = re.compile(r"[a-zA-Z0-9._-]{1,63}\Z")
_DEPLOYMENT_TAG = re.compile(r"[a-zA-Z0-9._-]{1,50}\Z")
_DEV_SUFFIX = re.compile(r"[a-zA-Z0-9]{1,8}\Z")
_SECRET_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")


def is_object_name(name: str) -> bool:
    """Return whether the text is a valid name of an app, secret, volume, dict or queue."""
    return len(name) <= 64 and bool(_NAME.match(name)) and not _APP_ID.match(name)


def is_volume_name(name: str) -> bool:
    """Return whether the text can be a volume's name: it can be part of an API URL, and is not a volume's id."""
    return is_object_name(name) and name not in (".", "..") and not is_volume_id(name)


def is_volume_id(text: str) -> bool:
    """Return whether the text is a volume's id, which stays when the name changes."""
    return bool(_VOLUME_ID.match(text))


def is_environment_name(name: str) -> bool:
    """Return whether the text can be the name of a new environment."""
    return bool(_ENVIRONMENT.match(name)) and not name.lower().startswith("en-")


def is_slug(text: str) -> bool:
    """Return whether the text can be a part of the first label before `--`; it contains no `--`."""
    return bool(_SLUG.match(text))


def is_label(label: str) -> bool:
    """Return whether the text can be the first label of a URL."""
    return bool(_LABEL.match(label))


def is_tag(text: str) -> bool:
    """Return whether the text can be a key or a value of an app's tags."""
    return bool(_TAG.match(text))


def is_deployment_tag(text: str) -> bool:
    """Return whether the text can be a tag of `deploy --tag`."""
    return bool(_DEPLOYMENT_TAG.match(text))


def is_dev_suffix(text: str) -> bool:
    """Return whether the text can replace the `dev` in `-dev`."""
    return bool(_DEV_SUFFIX.match(text))


def is_secret_key(key: str) -> bool:
    """Return whether the text can be the name of an environment variable of a secret."""
    return len(key) <= 16384 and bool(_SECRET_KEY.match(key))


def slug(text: str) -> str:
    """Return the text in lower case, with a dash for each character outside `[a-z0-9-]`.

    >>> slug("My_App v1.2")
    'my-app-v1-2'
    """
    return re.sub(r"[^a-z0-9-]", "-", text.lower())


def endpoint(app: str, tag: str) -> str:
    """Return an endpoint or a function as commands take it; `tag` is empty for a whole app.

    >>> endpoint("shop", "Cart.add"), endpoint("my.app", "price"), endpoint("shop", "")
    ('shop.Cart.add', 'my.app/price', 'shop')
    """
    if not tag:
        return app
    return f"{app}/{tag}" if "." in app else f"{app}.{tag}"


def default_label(app: str, tag: str) -> str:
    """Return `<app>-<function>`, or `<app>-<class>-<method>`.

    >>> default_label("shop", "Cart.add")
    'shop-cart-add'
    """
    return slug(f"{app}-{tag}")


def host_label(source: str, label: str, dev_suffix: str = "") -> str:
    """Return the first label of an endpoint's host: `<source>--<label>[-<dev_suffix>]`.

    The source is `<workspace>[-<web suffix of the environment>]`.

    A label over 63 characters is cut; a hash of the whole label keeps it unique:

    >>> host_label("ada", "shop-cart", "dev")
    'ada--shop-cart-dev'
    >>> len(host_label("ada", "x" * 80, "dev"))
    63
    """
    full = f"{slug(source)}--{label}"
    suffix = f"-{dev_suffix.lower()}" if dev_suffix else ""
    if len(full) + len(suffix) <= MAX_HOST:
        return full + suffix
    digest = hashlib.sha256(full.encode()).hexdigest()[:6]
    return f"{full[: MAX_HOST - 7 - len(suffix)]}-{digest}{suffix}"
