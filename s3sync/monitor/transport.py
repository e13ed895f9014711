"""Post to secret web addresses: nothing here raises, logs or returns any part of an address."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from s3sync import __version__

if TYPE_CHECKING:
    from urllib3 import PoolManager

NO_ANSWER = "no answer in time"
logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # its debug lines contain addresses


def post(url: str, body: str, content_type: str, timeout: float) -> str:
    """Post a text and return why that failed; empty if the server accepted it.

    The call ends after `timeout` seconds, regardless of the server. A thread does the work, and is abandoned then,
    because neither name resolution nor an answer that trickles in has a timeout.
    """
    answer: queue.SimpleQueue[str] = queue.SimpleQueue()
    try:
        threading.Thread(
            target=lambda: answer.put(_post(url, body, content_type, timeout)), name="notify", daemon=True
        ).start()
        return answer.get(timeout=timeout)
    except queue.Empty:
        return NO_ANSWER
    except RuntimeError as error:  # no more threads
        return _explain(error)


def _post(url: str, body: str, content_type: str, timeout: float) -> str:
    headers = {"Content-Type": content_type, "User-Agent": f"s3sync/{__version__}"}
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            return "not an http or https address"
        pool = _pool(parts.scheme, parts.netloc)
        response = pool.request(
            "POST",
            url,
            body=body.encode(),
            headers=headers,
            timeout=timeout,
            retries=False,
            redirect=False,
            preload_content=False,  # the body is of no interest, and may never end
        )
        response.close()
    except Exception as error:  # its traceback could contain the address
        return _explain(error)
    if 300 <= response.status < 400:
        return f"HTTP {response.status}: redirects are not followed (give the final address)"
    return "" if 200 <= response.status < 300 else f"HTTP {response.status}"


def _pool(scheme: str, host: str) -> PoolManager:
    """Return a connection pool that uses the proxy and the certificates of the environment, as other programs do."""
    import ssl  # these take 100 ms, and most scans send nothing
    from urllib.request import getproxies, proxy_bypass

    import urllib3.util

    context = ssl.create_default_context()  # as in urllib: SSL_CERT_FILE, or the system's certificates
    proxy = "" if proxy_bypass(host.rpartition("@")[2]) else getproxies().get(scheme, "")
    if not proxy:
        return urllib3.PoolManager(ssl_context=context)
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    credentials = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers, ssl_context=context, proxy_ssl_context=context)


def _explain(error: BaseException) -> str:
    """Return the class of the innermost error and the system's text for it. str(error) could contain the address."""
    while inner := next((arg for arg in error.args if isinstance(arg, Exception)), error.__cause__):
        error = inner
    if isinstance(error, TimeoutError):
        return NO_ANSWER
    reason = error.strerror if isinstance(error, OSError) else None
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__
