//! Code that must not compile: the invariants that are types. Each file in `compile_fail` is compiled against the libraries
//! that cargo has just built beside this test, so nothing is built anew for it.

use expect_test::{Expect, expect};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// Libraries that the files name.
const LIBRARIES: &[&str] = &["gateway", "ledger", "registry"];

#[test]
fn a_record_is_closed_once() {
    check(
        "close_a_record_twice",
        &expect![
            "tests/compile_fail/close_a_record_twice.rs:4:13: error[E0382]: use of moved value: `open`: value used here after move"
        ],
    );
}

#[test]
fn a_request_that_was_not_cleared_is_not_forwarded() {
    check(
        "forward_a_bare_request",
        &expect![
            "tests/compile_fail/forward_a_bare_request.rs:3:22: error[E0308]: mismatched types: expected `Cleared<<U as Upstream>::Plan>`, found `Request`"
        ],
    );
}

#[test]
fn only_a_permit_and_an_open_record_make_a_cleared_request() {
    check(
        "make_up_a_cleared_request",
        &expect![
            "tests/compile_fail/make_up_a_cleared_request.rs:3:5: error: cannot construct `Cleared<_>` with struct literal syntax due to private fields"
        ],
    );
}

#[test]
fn only_admission_gives_a_permit() {
    check(
        "make_up_a_permit",
        &expect![
            "tests/compile_fail/make_up_a_permit.rs:3:5: error: cannot construct `Permit<_>` with struct literal syntax due to private fields"
        ],
    );
}

#[test]
fn only_the_ledger_opens_a_record() {
    check(
        "make_up_an_open_record",
        &expect![
            "tests/compile_fail/make_up_an_open_record.rs:3:5: error: cannot construct `OpenRecord` with struct literal syntax due to private fields"
        ],
    );
}

#[test]
fn key_material_is_not_printed() {
    check(
        "print_a_secret",
        &expect![[r#"
        tests/compile_fail/print_a_secret.rs:3:15: error[E0277]: `Secret` doesn't implement `Debug`: `Secret` cannot be formatted using `{:?}` because it doesn't implement `Debug`
        tests/compile_fail/print_a_secret.rs:4:15: error[E0277]: `Vault` doesn't implement `Debug`: `Vault` cannot be formatted using `{:?}` because it doesn't implement `Debug`
        tests/compile_fail/print_a_secret.rs:5:15: error[E0277]: `Credential` doesn't implement `Debug`: `Credential` cannot be formatted using `{:?}` because it doesn't implement `Debug`"#]],
    );
}

#[test]
fn every_file_is_tried() {
    let here = std::fs::read_to_string("tests/misuse.rs").expect("this file");
    for file in std::fs::read_dir("tests/compile_fail").expect("the folder").flatten() {
        let name = file.path().file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(here.contains(&format!("\"{name}\"")), "no test tries {name}");
    }
}

/// Compiles a file and compares what the compiler says, an error a line.
fn check(name: &str, expected: &Expect) {
    let test = std::env::current_exe().expect("a test has a file");
    let built = test.parent().expect("it lies in a folder");
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--error-format", "short", "--emit", "metadata"]);
    let made = std::env::temp_dir().join(format!("hansard-misuse-{}-{name}", std::process::id()));
    rustc.arg("-o").arg(&made);
    rustc.arg("-L").arg(format!("dependency={}", built.display()));
    for library in LIBRARIES {
        rustc.arg("--extern").arg(format!("{library}={}", newest(built, library).display()));
    }
    let output = rustc.arg(format!("tests/compile_fail/{name}.rs")).output().expect("rustc runs");
    let _ = std::fs::remove_file(&made);
    assert!(!output.status.success(), "{name} compiles");
    let said = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("tests/")).collect();
    expected.assert_eq(&errors.join("\n"));
}

/// The library as it was built last: cargo keeps one for each set of features.
fn newest(built: &Path, library: &str) -> PathBuf {
    let prefix = format!("lib{library}-");
    let files = std::fs::read_dir(built).expect("the folder can be read").flatten();
    let libraries = files.filter(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        name.starts_with(&prefix) && name.ends_with(".rlib")
    });
    let made = |file: &std::fs::DirEntry| {
        file.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    libraries.max_by_key(made).unwrap_or_else(|| panic!("cargo built no {library}")).path()
}
