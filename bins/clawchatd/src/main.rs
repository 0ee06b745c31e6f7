//! clawchatd
fn main() {}
