//! Runs that take long: `cargo xtask bench` and `cargo xtask soak`.

mod compare;
mod streams;
mod soak;
mod many;

use std::process::ExitCode;

use xtask::steps::Run;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let run = Run::default();
    let done = match args.first().map(String::as_str) {
        Some("bench") => compare::run(&run, &args[1..]),
        Some("soak") => soak::run(&run),
        _ => Err("run it by `cargo xtask bench` or `cargo xtask soak`".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
