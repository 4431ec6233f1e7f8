//! Key material has no Debug, no Display and no Serialize.
fn print(secret: &registry::Secret, vault: &registry::Vault, credential: &registry::Credential) {
    println!("{secret:?}");
    println!("{vault:?}");
    println!("{credential:?}");
}

fn main() {}
