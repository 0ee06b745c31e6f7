//! clawchat
fn main() {}
