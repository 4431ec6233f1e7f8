//! Other hosts: bytes pass untouched, directly or by the proxy that the machine uses anyway.

use http::Uri;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const CONNECT_MAX: Duration = Duration::from_secs(15);
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A connection to `host:port`, by way of `proxy` if there is one.
pub(crate) async fn dial(host: &str, port: u16, proxy: Option<&Uri>) -> io::Result<TcpStream> {
    let timed = tokio::time::timeout(CONNECT_MAX, async {
        match proxy {
            None => TcpStream::connect((host.trim_matches(['[', ']']), port)).await,
            Some(proxy) => by_proxy(host, port, proxy).await,
        }
    });
    let socket = timed.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn by_proxy(host: &str, port: u16, proxy: &Uri) -> io::Result<TcpStream> {
    use base64::Engine;
    let authority = proxy.authority().ok_or(io::ErrorKind::InvalidInput)?;
    let mut socket = TcpStream::connect((authority.host(), authority.port_u16().unwrap_or(80))).await?;
    let mut head = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some((user, _)) = authority.as_str().rsplit_once('@') {
        let user = base64::engine::general_purpose::STANDARD.encode(user);
        head.push_str(&format!("Proxy-Authorization: Basic {user}\r\n"));
    }
    socket.write_all(format!("{head}\r\n").as_bytes()).await?;
    // Byte by byte: what follows the head belongs to the tunnel.
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        if read.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        read.push(socket.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&read);
    match line.split(' ').nth(1) {
        Some("200") => Ok(socket),
        _ => Err(io::Error::other(format!(
            "the proxy {} answered: {}",
            authority.host(),
            line.lines().next().unwrap_or_default()
        ))),
    }
}

/// Copies both ways until both ends are done.
pub(crate) async fn pass<S: AsyncRead + AsyncWrite + Unpin>(mut client: S, mut server: TcpStream) {
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
