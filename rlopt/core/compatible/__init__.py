"""Critics whose advantage is linear in the policy's score, A(s, a) = w . score(s, a). One file each."""
