import { signIn } from "./api.js";

const problem = document.getElementById("problem");

document.getElementById("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  try {
    await signIn(document.getElementById("token").value.trim());
    location.assign("/");
  } catch (error) {
    problem.textContent = error.message;
  }
});
