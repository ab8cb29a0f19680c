"""Log each checkpoint of a training with Hugging Face's Trainer as a version of one artifact.

    python transformers_callback.py

Needs transformers, with torch: pip install 'wherry[daemon]' 'transformers[torch]'
"""

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import wherry
from wherry.integrations.transformers import WherryCallback

# Whether the first number of a row is odd, for a model that is made here.
rows = [{"input_ids": [i % 50, *range(7)], "labels": i % 2} for i in range(64)]
config = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
)
trainer = Trainer(
    BertForSequenceClassification(config),
    TrainingArguments(
        "checkpoints",
        num_train_epochs=4,
        learning_rate=0.01,
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model="loss",
        greater_is_better=False,
        save_total_limit=1,  # one folder or two stay on this machine; all of them become versions
        report_to="none",
    ),
    train_dataset=rows,
    eval_dataset=rows[:16],
    callbacks=[WherryCallback("tiny-bert", project="examples")],
)
trainer.train()

best = wherry.Api().artifact("examples/tiny-bert:best")
print(f"the best is {best.name}: loss {best.metadata['score']:.3f}")
