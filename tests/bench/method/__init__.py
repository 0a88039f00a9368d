"""The paper's own question: ``cell`` is one training and its answers, ``figures`` what all of them say."""
