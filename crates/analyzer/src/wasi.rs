//! The functions of WASI preview 1 that the module imports. It has no clock, no chance and no voice, so the same
//! text always gives the same answer; and one file, which every time zone it asks for is: parsing needs that
//! there is one, not what it says.

use wasmtime::{Caller, Error, Extern, Linker, Memory, Result};

const WASI: &str = "wasi_snapshot_preview1";
const OK: i32 = 0;
/// `errno` of WASI: bad descriptor, not supported.
const BADF: i32 = 8;
const NOTSUP: i32 = 58;
/// Buffers in one call.
const PARTS_MAX: i32 = 1024;
/// `fdstat`: what a descriptor is, with every right.
const FDSTAT_LEN: usize = 24;
const CHARACTER_DEVICE: u8 = 2;
const DIRECTORY: u8 = 3;
const REGULAR_FILE: u8 = 4;
/// Below it stand input, output and errors; what is written there is dropped.
const ZONES_FD: i32 = 3;
const ZONES: &str = "/usr/share/zoneinfo";
const ZONE_FD: i32 = 4;
/// UTC in the format of RFC 8536: one type, no transition.
const ZONE: &[u8] = b"TZif\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\x04\0\0\0\0\0\0UTC\0";

/// How far the open file was read.
pub(crate) type Host = usize;
type Guest<'a> = Caller<'a, Host>;

/// Gives the linker what the module asks for.
pub(crate) fn link(linker: &mut Linker<Host>) -> Result<()> {
    link_environment(linker)?;
    link_paths(linker)?;
    link_descriptors(linker)
}

/// No variables, no time, no chance.
fn link_environment(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(WASI, "environ_get", |_: i32, _: i32| OK)?;
    linker.func_wrap(WASI, "environ_sizes_get", |mut guest: Guest, count: i32, bytes: i32| {
        write(&mut guest, count, &[0; 4])?;
        write(&mut guest, bytes, &[0; 4])
    })?;
    linker.func_wrap(WASI, "clock_time_get", |mut guest: Guest, _: i32, _: i64, at: i32| {
        write(&mut guest, at, &0u64.to_le_bytes())
    })?;
    // Seeds of hash tables.
    linker.func_wrap(WASI, "random_get", |mut guest: Guest, at: i32, len: i32| {
        let len = (len as u32 as usize).min(4096);
        write(&mut guest, at, &vec![7; len])
    })?;
    linker.func_wrap(WASI, "sched_yield", || OK)?;
    linker.func_wrap(WASI, "poll_oneoff", |_: i32, _: i32, _: i32, _: i32| NOTSUP)?;
    linker.func_wrap(WASI, "proc_exit", |_: i32| -> Result<()> { Err(Error::msg("the module gave up")) })?;
    Ok(())
}

/// One folder, and whatever is opened in it.
fn link_paths(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(WASI, "fd_prestat_get", |mut guest: Guest, fd: i32, at: i32| {
        if fd != ZONES_FD {
            return Ok(BADF);
        }
        let mut stat = [0; 8];
        stat[4] = ZONES.len() as u8;
        write(&mut guest, at, &stat)
    })?;
    linker.func_wrap(
        WASI,
        "fd_prestat_dir_name",
        |mut guest: Guest, fd: i32, at: i32, len: i32| match ZONES.as_bytes().get(..len as u32 as usize) {
            Some(name) if fd == ZONES_FD => write(&mut guest, at, name),
            _ => Ok(BADF),
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_filestat_get",
        |mut guest: Guest, _: i32, _: i32, _: i32, _: i32, at: i32| {
            let mut stat = [0; 64];
            stat[16] = REGULAR_FILE;
            stat[32..40].copy_from_slice(&(ZONE.len() as u64).to_le_bytes());
            write(&mut guest, at, &stat)
        },
    )?;
    linker.func_wrap(
        WASI,
        "path_open",
        |mut guest: Guest, _: i32, _: i32, _: i32, _: i32, _: i32, _: i64, _: i64, _: i32, at: i32| {
            *guest.data_mut() = 0;
            write(&mut guest, at, &ZONE_FD.to_le_bytes())
        },
    )?;
    Ok(())
}

/// What is done with an open file.
fn link_descriptors(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(WASI, "fd_fdstat_get", |mut guest: Guest, fd: i32, at: i32| {
        let mut stat = [0xff; FDSTAT_LEN];
        stat[..8].fill(0);
        stat[0] = match fd {
            0..ZONES_FD => CHARACTER_DEVICE,
            ZONES_FD => DIRECTORY,
            ZONE_FD => REGULAR_FILE,
            _ => return Ok(BADF),
        };
        write(&mut guest, at, &stat)
    })?;
    linker.func_wrap(WASI, "fd_fdstat_set_flags", |_: i32, _: i32| OK)?;
    linker.func_wrap(WASI, "fd_close", |_: i32| OK)?;
    linker.func_wrap(WASI, "fd_seek", |mut guest: Guest, fd: i32, by: i64, whence: i32, at: i32| {
        if fd != ZONE_FD {
            return Ok(BADF);
        }
        let base = match whence {
            0 => 0,
            1 => *guest.data() as i64,
            _ => ZONE.len() as i64,
        };
        let to = base.saturating_add(by).clamp(0, ZONE.len() as i64);
        *guest.data_mut() = to as usize;
        write(&mut guest, at, &(to as u64).to_le_bytes())
    })?;
    linker.func_wrap(WASI, "fd_read", |mut guest: Guest, fd: i32, parts: i32, count: i32, read: i32| {
        if fd != ZONE_FD {
            return Ok(BADF);
        }
        let mut total = 0u32;
        for part in 0..count.clamp(0, PARTS_MAX) {
            let (at, len) = part_at(&mut guest, parts, part)?;
            let rest = &ZONE[*guest.data()..];
            let some = &rest[..rest.len().min(len)];
            write(&mut guest, at, some)?;
            *guest.data_mut() += some.len();
            total += some.len() as u32;
        }
        write(&mut guest, read, &total.to_le_bytes())
    })?;
    linker.func_wrap(WASI, "fd_pread", |_: i32, _: i32, _: i32, _: i64, _: i32| BADF)?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |mut guest: Guest, _: i32, parts: i32, count: i32, written: i32| {
            let mut total = 0u32;
            for part in 0..count.clamp(0, PARTS_MAX) {
                total = total.wrapping_add(part_at(&mut guest, parts, part)?.1 as u32);
            }
            write(&mut guest, written, &total.to_le_bytes())
        },
    )?;
    Ok(())
}

/// Where a part of a vector of buffers is, and its length.
fn part_at(guest: &mut Guest, parts: i32, part: i32) -> Result<(i32, usize)> {
    let mut found = [0; 8];
    let at = (parts as u32 as usize).wrapping_add(8 * part as usize);
    memory(guest)?.read(&*guest, at, &mut found)?;
    let [a, b, c, d, e, f, g, h] = found;
    Ok((i32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]) as usize))
}

fn memory(guest: &mut Guest) -> Result<Memory> {
    guest.get_export("memory").and_then(Extern::into_memory).ok_or_else(|| Error::msg("no memory"))
}

fn write(guest: &mut Guest, at: i32, bytes: &[u8]) -> Result<i32> {
    memory(guest)?.write(&mut *guest, at as u32 as usize, bytes)?;
    Ok(OK)
}
