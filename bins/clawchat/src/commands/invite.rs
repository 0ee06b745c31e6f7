//! `invite`.

use std::io::IsTerminal as _;

use clawchat_ipc::Request;
use serde_json::Value;

use super::Context;
use crate::args::InviteCommand;
use crate::failure::Outcome;
use crate::human;
use crate::qr::{Drawing, Paint};

/// `invite …`.
pub(super) fn invite(context: &Context, command: InviteCommand) -> Outcome {
    match command {
        InviteCommand::Create {
            expires,
            uses,
            qr,
            no_qr,
        } => {
            let request = Request::InviteCreate {
                expires: expires.map(|time| time.duration()),
                uses,
            };
            let answer = context.link()?.call(context.acting(), request)?;
            context.screen.answer(&answer, human::invite)?;
            if !no_qr && let Some(line) = answer.get("invite").and_then(Value::as_str) {
                draw(context, line, qr);
            }
            Ok(())
        }
        InviteCommand::List => {
            let answer = context.link()?.call(context.acting(), Request::InviteList)?;
            context.screen.answer(&answer, human::invites)
        }
        InviteCommand::Revoke { invite } => {
            let request = Request::InviteRevoke { invite };
            let answer = context.link()?.call(context.acting(), request)?;
            context.screen.answer(&answer, human::invite_revoked)
        }
    }
}

/// The line as a QR code on stderr: when it was asked for, or for people at a terminal that has room for it.
fn draw(context: &Context, line: &str, asked: bool) {
    let stderr = std::io::stderr();
    let terminal = stderr.is_terminal();
    let for_people = terminal && context.screen.is_text();
    if !asked && !for_people {
        return;
    }
    let Some(drawing) = Drawing::of(line) else {
        context.screen.note("(too long for a QR code)");
        return;
    };
    let (columns, lines) = drawing.size();
    let room = rustix::termios::tcgetwinsize(&stderr).map_or((usize::MAX, usize::MAX), |size| {
        (usize::from(size.ws_col), usize::from(size.ws_row))
    });
    if !asked && (room.0 < columns || room.1 < lines) {
        context.screen.note(&format!(
            "(the QR code needs a terminal of {columns} columns and {lines} lines; --qr draws it all the same)"
        ));
        return;
    }
    let paint = if terminal { Paint::Colours } else { Paint::Plain };
    context.screen.drawing(&drawing.lines(paint));
}
