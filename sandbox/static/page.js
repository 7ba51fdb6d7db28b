"use strict";

const live = document.getElementById("live");
const notice = document.getElementById("notice");
const form = document.getElementById("fault-form");
let shown = "";
let hiding;

function say(text) {
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { notice.hidden = true; }, 4000);
}

async function send(method, path, body) {
  try {
    const answer = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const document = await answer.json();
    if (!answer.ok) throw new Error(document.message || document.code);
    return document;
  } catch (error) {
    say("没有成功：" + error.message);
    return null;
  } finally {
    refresh();
  }
}

async function refresh() {
  // Not while a choice inside is open: it would close under the finger.
  if (live.querySelector("select:focus")) return;
  try {
    const answer = await fetch("/live");
    const text = await answer.text();
    if (answer.ok && text !== shown) {
      shown = text;
      live.innerHTML = text;
    }
  } catch (error) {
    say("沙箱没有应答，可能已停止。");
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[type=button]");
  if (!button) return;
  const { pay, resend, deleteFault, clock, decide, status, refund, mchid, yuan } = button.dataset;
  button.disabled = true;
  if (pay) {
    const payer = button.closest("article").querySelector(".payer");
    const paid = await send("POST", "/sandbox/pay", { prepay_id: pay, ...(payer ? { openid: payer.value } : {}) });
    if (paid) say("支付成功");
  } else if (resend) {
    const sent = await send("POST", `/sandbox/callbacks/${resend}/resend`, {});
    if (sent) say("已重发，应答 " + sent.statuses.map((status) => status ?? "无").join("、"));
  } else if (deleteFault) {
    await send("DELETE", `/sandbox/faults/${deleteFault}`);
  } else if (decide) {
    await send("POST", `/sandbox/refunds/${decide}/decide`, { status });
  } else if (refund) {
    const text = prompt("退多少元？How much, in yuan?", yuan);
    const fen = Math.round(Number(text) * 100);
    if (text !== null && await send("POST", "/sandbox/refunds", { out_trade_no: refund, mchid, amount_fen: fen })) say("已发起退款");
  } else if (clock) {
    await send("POST", "/sandbox/clock", JSON.parse(clock));
  }
  button.disabled = false;
});

form.elements.kind.addEventListener("change", () => {
  for (const group of form.querySelectorAll("fieldset")) {
    group.hidden = group.disabled = group.dataset.kind !== form.elements.kind.value;
  }
});

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fault = {};
  for (const input of form.querySelectorAll("input, select")) {
    if (input.matches(":disabled") || input.value === "") continue;
    fault[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  if (await send("POST", "/sandbox/faults", fault)) say("故障已设置");
});

form.elements.kind.dispatchEvent(new Event("change"));
setInterval(refresh, 2000);
