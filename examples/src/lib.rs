//! One runnable program per idea: `cargo run -p clawchat-examples --example NAME`.
