//! The engine, and the module in it.

use std::path::Path;
use wasmtime::{Config, Engine, Module, OptLevel};

/// The engine that compiled code is for; part of its file's name.
pub(crate) const ENGINE: &str = "wasmtime-48";
/// WebAssembly's pages of 64 KiB: 256 MiB. The hungriest of hostile texts took 118.
const PAGES_MAX: u32 = 4096;
/// Native stack that the guest may use; the threads that call it have more.
const STACK_BYTES_MAX: usize = 14 << 20;

fn engine() -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    config.epoch_interruption(true);
    // Nothing is asynchronous here, and yet it must be at least as large.
    config.async_stack_size(STACK_BYTES_MAX);
    config.max_wasm_stack(STACK_BYTES_MAX);
    config.memory_init_cow(true);
    config.wasm_threads(true);
    config.cranelift_opt_level(OptLevel::Speed);
    Engine::new(&config)
}

/// Compiles the module as it was published.
pub(crate) fn compile(mut wasm: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
    make_private(&mut wasm)
        .ok_or_else(|| wasmtime::Error::msg("its memory is not declared as it is known to be"))?;
    engine()?.precompile_module(&wasm)
}

/// Loads compiled code.
#[expect(unsafe_code, reason = "compiled code is mapped and run as it lies there")]
pub(crate) fn load(path: &Path) -> wasmtime::Result<Module> {
    let engine = engine()?;
    // SAFETY: the file was made by `compile` in a folder and a file that only this user (or root) can write,
    // which `install::find` has checked; the engine checks that its version and settings made it.
    unsafe { Module::deserialize_file(&engine, path) }
}

/// The module declares one shared memory of up to 4 GiB, though it never starts a thread. Made private and
/// smaller, it starts as a copy-on-write image and has a hard limit. Same length: nothing else moves.
fn make_private(wasm: &mut [u8]) -> Option<()> {
    const MEMORY_SECTION: u8 = 5;
    let mut at = 8;
    while at < wasm.len() {
        let (len, body) = leb(wasm, at + 1)?;
        if wasm[at] != MEMORY_SECTION {
            at = body + len as usize;
            continue;
        }
        // One memory; flags 3: it has a maximum and is shared.
        if wasm.get(body..body + 2)? != [1, 3] {
            return None;
        }
        let (_, at_max) = leb(wasm, body + 2)?;
        let (_, end) = leb(wasm, at_max)?;
        wasm[body + 1] = 1;
        let mut pages = PAGES_MAX;
        let (last, before) = wasm[at_max..end].split_last_mut()?;
        for byte in before {
            *byte = (pages & 0x7f) as u8 | 0x80;
            pages >>= 7;
        }
        *last = (pages & 0x7f) as u8;
        return Some(());
    }
    None
}

/// An unsigned LEB128 number, and where it ends.
fn leb(wasm: &[u8], mut at: usize) -> Option<(u32, usize)> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = *wasm.get(at)?;
        at += 1;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some((value, at));
        }
    }
    None
}
