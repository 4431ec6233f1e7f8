//! Who is at the other end of a loopback connection, by the kernel's own word.

use rustix::process::{Pid, getpid, getuid};
use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;

/// Whom a sidecar serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Processes below this one: what `exec` started, and what that started.
    Descendants,
    /// Every process of this user: what `env` is for.
    SameUser,
}

/// Whether the process at the other end may be served. `peer` is its end, `ours` the sidecar's. Blocks.
pub fn may_connect(admits: Admits, peer: SocketAddr, ours: SocketAddr) -> bool {
    let Some((uid, inode)) = socket(peer, ours) else { return false };
    if uid != getuid().as_raw() {
        return false;
    }
    match admits {
        Admits::SameUser => true,
        Admits::Descendants => below(getpid()).into_iter().any(|pid| holds(pid, inode)),
    }
}

/// Owner and inode of the socket whose own end is `peer`.
fn socket(peer: SocketAddr, ours: SocketAddr) -> Option<(u32, u64)> {
    // A client may speak IPv4 by a socket of IPv6.
    ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().find_map(|path| {
        let table = fs::read_to_string(path).ok()?;
        table.lines().skip(1).find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (own, other) = (fields.nth(1)?, fields.next()?);
            if !is(own, peer) || !is(other, ours) {
                return None;
            }
            Some((fields.nth(4)?.parse().ok()?, fields.nth(1)?.parse().ok()?))
        })
    })
}

/// Whether an address of the kernel's table (`0100007F:1F90`) is this one.
fn is(field: &str, address: SocketAddr) -> bool {
    let Some((ip, port)) = field.split_once(':') else { return false };
    let SocketAddr::V4(address) = address else { return false };
    // In the byte order of the machine, as the kernel prints it.
    let v4 = format!("{:08X}", u32::from_ne_bytes(address.ip().octets()));
    let mapped = format!("0000000000000000{:08X}{v4}", u32::from_ne_bytes([0, 0, 0xFF, 0xFF]));
    (ip == v4 || ip == mapped) && u16::from_str_radix(port, 16) == Ok(address.port())
}

/// Every process below this one.
pub fn below(of: Pid) -> Vec<Pid> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name stands in parentheses and may hold anything; state and parent follow it.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![of.as_raw_nonzero().get()];
    while let Some(pid) = open.pop() {
        for child in children.remove(&pid).into_iter().flatten() {
            open.push(child);
            found.extend(Pid::from_raw(child));
        }
    }
    found
}

fn holds(pid: Pid, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let fds = fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
    fds.into_iter().flatten().flatten().any(|fd| {
        fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str().to_str() == Some(wanted.as_str()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_of_this_process_is_this_users_and_no_descendants() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = listener.local_addr().unwrap();
        let client = TcpStream::connect(ours).unwrap();
        let peer = client.local_addr().unwrap();
        assert!(may_connect(Admits::SameUser, peer, ours));
        assert!(!may_connect(Admits::Descendants, peer, ours));
        let nobody = SocketAddr::new(peer.ip(), 1);
        assert!(!may_connect(Admits::SameUser, nobody, ours));
    }
}
