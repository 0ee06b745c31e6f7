//! snap2p
